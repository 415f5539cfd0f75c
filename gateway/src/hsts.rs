//! What browsers are told to remember of a host that is called over TLS (`Strict-Transport-Security`, RFC 6797): by the gateway
//! for all, or by a route. Pure.

use std::time::Duration;

use http::HeaderValue;
use tidegate_config::model::Hsts;

/// What a route says of it instead of the gateway. Responses carry it until they are sent.
#[derive(Debug, Clone)]
pub(crate) struct Own(pub(crate) Option<HeaderValue>);

impl Own {
    /// `None` where the gateway's word stands.
    pub(crate) fn of(hsts: Hsts) -> Option<Self> {
        match hsts {
            Hsts::Gateway => None,
            Hsts::Nothing => Some(Self(None)),
            Hsts::Only { max_age, subdomains } => Some(Self(Some(field(max_age, subdomains)))),
        }
    }
}

/// The field's value.
pub(crate) fn field(max_age: Duration, subdomains: bool) -> HeaderValue {
    let below = if subdomains { "; includeSubDomains" } else { "" };
    HeaderValue::try_from(format!("max-age={}{below}", max_age.as_secs())).expect("letters and digits")
}
