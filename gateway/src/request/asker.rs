//! Who is asking: a caller, an onlooker, or a visitor, who is a caller with a browser. Called by [`doorstep`](super::doorstep). Pure: the same request is always the same asker.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, Method,
    header::{ACCEPT, USER_AGENT},
};
use tidegate_config::model::Ignore;

/// Whether a request neither wakes a service nor keeps it awake.
pub(crate) fn is_onlooker(ignore: &Ignore, path: &str, headers: &HeaderMap, client: IpAddr) -> bool {
    ignore.paths.iter().any(|prefix| prefix.strip(path).is_some())
        || ignore.networks.iter().any(|network| network.contains(&client))
        || headers.get(USER_AGENT).is_some_and(|agent| is_named(ignore, agent.as_bytes()))
}

const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");
const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// Whether a person opens a page in a browser: it can show another page meanwhile. Never a script's call, a form that was
/// sent, or a page in a frame.
pub(crate) fn is_visitor(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    *method == Method::GET
        && match (text(&MODE), text(&DESTINATION)) {
            (Some(mode), destination) => mode == "navigate" && destination == Some("document"),
            // Browsers from before 2023 do not say; programs seldom ask for HTML under a browser's name.
            (None, Some(_)) => false,
            (None, None) => {
                text(&ACCEPT).is_some_and(|types| types.contains("text/html"))
                    && text(&USER_AGENT).is_some_and(|agent| agent.starts_with("Mozilla/"))
                    && !headers.contains_key(REQUESTED_WITH)
            }
        }
}

/// Longer names are looked at up to here: a client must not make us search kilobytes.
const LOOKED_AT: usize = 512;

fn is_named(ignore: &Ignore, agent: &[u8]) -> bool {
    let agent = agent[..agent.len().min(LOOKED_AT)].to_ascii_lowercase();
    ignore.agents().any(|name| contains(&agent, name.as_bytes()))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len().max(1)).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(ignore: &Ignore, path: &str, agent: &str, client: &str) -> bool {
        let headers = [(USER_AGENT, HeaderValue::from_str(agent).expect("a value"))].into_iter().collect();
        is_onlooker(ignore, path, &headers, client.parse().expect("an address"))
    }

    #[test]
    fn paths_names_and_networks_make_an_onlooker() {
        const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        let ignore = Ignore {
            paths: vec!["/healthz".parse().expect("a path")],
            user_agents: vec!["my-monitor/".into()],
            networks: vec!["10.9.0.0/16".parse().expect("a network")],
            monitors: true,
        };
        let rows = [
            ("/", FIREFOX, "10.0.0.1", false),
            ("/healthz", FIREFOX, "10.0.0.1", true),
            ("/healthz/live", FIREFOX, "10.0.0.1", true),
            ("/healthzz", FIREFOX, "10.0.0.1", false),
            ("/", FIREFOX, "10.9.1.1", true),
            ("/", "My-Monitor/2.0", "10.0.0.1", true),
            ("/", "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)", "10.0.0.1", true),
            ("/", "kube-probe/1.30", "10.0.0.1", true),
            ("/", "Mozilla/5.0 (compatible; Googlebot/2.1)", "10.0.0.1", false),
            ("/", "curl/8.5.0", "10.0.0.1", false),
            ("/", "", "10.0.0.1", false),
        ];
        for (path, agent, client, want) in rows {
            assert_eq!(check(&ignore, path, agent, client), want, "{path} {agent} {client}");
        }
        let nobody = Ignore { monitors: false, ..Ignore::default() };
        assert!(!check(&nobody, "/healthz", "kube-probe/1.30", "10.9.1.1"));
    }

    #[test]
    fn a_browser_that_opens_a_page_is_a_visitor_and_nothing_else_is() {
        let html = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        let (mozilla, curl) = (("user-agent", "Mozilla/5.0 (X11)"), ("user-agent", "curl/8"));
        let says =
            |mode, destination| [("sec-fetch-mode", mode), ("sec-fetch-dest", destination), mozilla, html];
        for (method, fields, want) in [
            (Method::GET, &says("navigate", "document")[..], true),
            (Method::POST, &says("navigate", "document")[..], false),
            (Method::HEAD, &says("navigate", "document")[..], false),
            (Method::GET, &says("navigate", "iframe")[..], false),
            (Method::GET, &says("cors", "empty")[..], false),
            (Method::GET, &says("no-cors", "image")[..], false),
            (Method::GET, &[mozilla, html][..], true),
            (Method::GET, &[mozilla, html, ("x-requested-with", "XMLHttpRequest")][..], false),
            (Method::GET, &[mozilla, ("accept", "application/json")][..], false),
            (Method::GET, &[curl, html][..], false),
            (Method::GET, &[curl, ("accept", "*/*")][..], false),
            (Method::GET, &[][..], false),
        ] {
            let field = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            let headers = fields.iter().map(field).collect();
            assert_eq!(is_visitor(&method, &headers), want, "{method} {headers:?}");
        }
    }

    #[test]
    fn a_long_name_is_looked_at_in_part() {
        let long = format!("{}kube-probe/", "x".repeat(LOOKED_AT));
        assert!(!check(&Ignore::default(), "/", &long, "10.0.0.1"));
    }
}
