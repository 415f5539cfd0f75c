//! Where requests arrive, and what is demanded of those who come.

use super::{duration, text_or_table};
use crate::{
    decode::{
        At,
        leaf::{Span, Text},
        section,
    },
    model,
};

section! {
    /// A listener, with more than its address.
    ListenerTable => {
        /// Its address and port, as in `0.0.0.0:443`.
        address: Text,
        /// Whether it speaks TLS, with the certificates of `[gateway.tls]`.
        tls: bool = false,
        /// A file of certificate authorities: only clients with a certificate from one of them are served.
        client_ca: Text,
        /// Whether load balancers of `trusted_proxies` say first who the client is, by the PROXY protocol (version 1 or 2).
        /// Everybody else is turned away.
        proxy_protocol: bool = false,
        /// Whether requests are sent on to the same place over HTTPS (308), but for ACME's challenges.
        redirect_to_https: bool = false,
    }
}

text_or_table! {
    /// A listener: its address and port, or a table.
    Listener, ListenerTable, "text or table"
}

section! {
    /// Certificates, and what is demanded of connections over TLS.
    GatewayTls, d = model::GatewayTls::default() => {
        /// Certificates in files. Each stands for the names in it, exact ones before wildcards; a client that names
        /// something else, or nothing, is refused. Changed files are taken up at once.
        certificates: Vec<At<Certificate>> = Vec::<String>::new(),
        /// The oldest version of TLS that is spoken: `"1.2"` or `"1.3"`.
        min_version: model::TlsVersion = "1.2",
        /// How long a client may take to the end of its handshake.
        handshake_timeout: Span = duration(d.handshake_timeout),
        /// How long browsers are to remember that these hosts speak HTTPS only (`Strict-Transport-Security` in every answer
        /// over TLS; `middleware.hsts` says it for a route). Default: not at all.
        hsts: Span,
        /// Whether they are to remember it of every name below, too.
        hsts_subdomains: bool = d.hsts_subdomains,
        /// An authority that issues certificates by itself (ACME). With this table, you agree to its terms of service.
        acme: Acme,
    }
}

section! {
    /// A certificate in files.
    Certificate => {
        /// The certificate and those that lead to its authority, in PEM.
        cert: Text,
        /// Its private key, in PEM; only its owner and group may be able to read it.
        key: Text,
        /// Whether clients get it that do not say whom they call.
        default: bool = false,
    }
}

section! {
    /// An authority that issues certificates by itself, for one name each; they are renewed after two thirds of their life.
    Acme => {
        /// Where the authority writes to when something is wrong.
        email: Text,
        /// Where the authority is. Its staging place is for trying out.
        directory: Text = model::LETS_ENCRYPT,
        /// The names. Default: the hosts of routes, but for wildcards, names of this machine (`*.localhost`), and those that a
        /// certificate in a file is for.
        domains: Vec<At<Text>>,
        /// How it is proved that a name is ours: `"http-01"`, for which port 80 of the name must lead to a listener without
        /// TLS, or `"tls-alpn-01"`, for which port 443 must lead to one with TLS.
        challenge: model::Challenge = "http-01",
        /// A file with the authority that vouches for the directory's own certificate, if it is a private one.
        ca: Text,
    }
}
