//! The gateway's edge over real sockets: certificates, names, what is demanded of clients.

mod files;
mod names;
mod passed_on;
mod proxied;
mod redirect;
mod reload;
mod terms;
