//! Who may ask the gateway from elsewhere.

use crate::decode::{At, leaf::Text, section};

section! {
    /// Administration over TCP, which is off without this table. The admin socket is always there.
    Admin => {
        /// The address and port. Without `cert` and `key` it must be on loopback.
        listen: Text,
        /// A PEM file: the certificate, and those that lead to its root.
        cert: Text,
        /// A PEM file: the key of `cert`; only its owner and group may be able to read it.
        key: Text,
        /// Names by which it is called, besides addresses and `localhost`. Others are refused, so that no page in a
        /// browser reaches it by a name of its own.
        names: Vec<At<Text>> = Vec::<String>::new(),
        /// Who may ask, and for what.
        tokens: Vec<At<Token>>,
    }
}

section! {
    /// Somebody who may ask: with `Authorization: Bearer TOKEN`. Has `token` or `token_file`.
    Token => {
        /// Who it is, for the log. Required.
        name: Text,
        /// `read`: services, hosts, settings, metrics. `operate`: also logs, wake, sleep and restart. `admin`: also going
        /// back to another version, and what hosts are told. Required.
        role: Text,
        /// `sha256:` and the SHA-256 of the token in hexadecimal digits, never the token itself.
        token: Text,
        /// A file with the token; read at each question, so that a new one needs no reload.
        token_file: Text,
    }
}
