//! What a person sees who opens a service that sleeps: a [`page`] that follows the start ([`follow`]) and goes on by itself.
//! Called by [`doorstep`](super::doorstep) and, for what the page asks, by [`handle`](super::handle).

mod follow;
mod page;

use std::{sync::Arc, time::Duration};

use http::{Response, Uri};
use tidegate_config::model;

use super::{Door, body::Body};
use crate::{
    clock,
    fleet::{Service, Standing},
};

pub(crate) use follow::response as follow;

/// Where the page asks how the start goes.
pub(crate) const PATH: &str = "/.well-known/tidegate/wake";

/// How long a page that was sent is demand by itself: until its script follows, or it is loaded anew without one.
const LOOKED_AT: Duration = Duration::from_secs(6);

/// The page for somebody who opens this service. The start is under way from here on.
pub(crate) fn page(service: &Arc<Service>, settings: &model::WaitingPage, door: &Door) -> Response<Body> {
    let now = clock::now();
    let failed = service.refuses().map(|why| (follow::words(&why), why.retry_after(now)));
    if failed.is_none() {
        hold_up(service, door);
    }
    service.metrics.waiting_pages.increment(1);
    let own = match settings {
        model::WaitingPage::BuiltIn => None,
        model::WaitingPage::Own(html) => Some(&**html),
    };
    page::response(&page::Page { own, service: service.name.as_str(), failed, nonce: rand::random() })
}

/// Holds up the demand of those who look at a page, one ticket for all of them.
fn hold_up(service: &Arc<Service>, door: &Door) {
    let Some(looked_at) = service.awake.looked_at() else { return };
    let (service, cut) = (Arc::clone(service), door.cut.clone());
    door.tasks.spawn(async move {
        let now = clock::now();
        tokio::select! {
            // Ready or refused: the page learns that by itself.
            _ = service.enter(now, now + LOOKED_AT, Standing::Caller, None) => {}
            () = cut.cancelled() => {}
        }
        drop(looked_at);
    });
}

/// The page that asks: the path that it was opened at, below which its service is found.
pub(crate) fn asked_from(uri: &Uri) -> Option<Uri> {
    let query = uri.query().filter(|_| uri.path() == PATH)?;
    let path = query.split('&').find_map(|pair| pair.strip_prefix("for="))?;
    decoded(path)?.parse().ok().filter(|uri: &Uri| uri.path().starts_with('/') && uri.authority().is_none())
}

/// Without the percent signs that `encodeURIComponent` puts in.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_asks_for_the_path_that_it_was_opened_at() {
        let check = |uri: &str| asked_from(&uri.parse().expect("a target")).map(|uri| uri.to_string());
        let at = |path: &str| Some(path.to_owned());
        assert_eq!(check("/.well-known/tidegate/wake?for=%2Fa%2Fb"), at("/a/b"));
        assert_eq!(check("/.well-known/tidegate/wake?x=1&for=%2F%2525"), at("/%25"));
        for none in [
            "/other?for=%2F",
            "/.well-known/tidegate/wake",
            "/.well-known/tidegate/wake?for=http://x/",
            "/.well-known/tidegate/wake?for=%2",
            "/.well-known/tidegate/wake?for=%ff",
        ] {
            assert_eq!(check(none), None, "{none}");
        }
    }
}
