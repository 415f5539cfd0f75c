//! The page that somebody sees who opens a service that sleeps. Pure; chance is an argument.
//! Holds: it needs nothing from elsewhere, and runs no script but ours; without scripts it loads itself anew. 503, so that no
//! cache, crawler or monitor takes it for the page that was asked for; browsers show it all the same.

use http::{
    HeaderValue, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
        X_CONTENT_TYPE_OPTIONS,
    },
};

use crate::request::body::Body;

const BUILT_IN: &str = include_str!("page.html");
const FOLLOW: &str = include_str!("follow.js");

/// What loads the page anew where scripts do not run.
const AGAIN: &str = "<noscript><meta http-equiv=\"refresh\" content=\"4\"></noscript>";

/// After how many seconds whoever does not follow may ask again.
const RETRY: u64 = 4;

/// What the page says.
pub(crate) struct Page<'p> {
    /// A page of the user's own, instead of ours.
    pub(crate) own: Option<&'p str>,
    /// The service's name.
    pub(crate) service: &'p str,
    /// Why it does not start, if it does not; and when it is tried again, in seconds.
    pub(crate) failed: Option<(String, Option<u64>)>,
    /// What lets a script run; never used twice.
    pub(crate) nonce: u128,
}

/// The page as a response.
pub(crate) fn response(page: &Page<'_>) -> Response<Body> {
    let nonce = format!("{:032x}", page.nonce);
    let html = page.own.map_or_else(|| built_in(page, &nonce), |own| followed(own, page, &nonce));
    // Styles in the elements of a page of one's own are let through; scripts never are without the nonce.
    let style = if page.own.is_some() { "'unsafe-inline'".to_owned() } else { format!("'nonce-{nonce}'") };
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src {style}; img-src data:; font-src data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let retry = page.failed.as_ref().map_or(Some(RETRY), |(_, again)| *again);
    let mut response = Response::new(Body::full(html.into()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::try_from(policy).expect("plain text"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(seconds) = retry {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn built_in(page: &Page<'_>, nonce: &str) -> String {
    let service = escaped(page.service);
    let (state, title, reason) = match &page.failed {
        None => ("", format!("{service} is starting"), String::new()),
        Some((reason, _)) => ("failed", format!("{service} did not start"), escaped(reason)),
    };
    let html = BUILT_IN
        .replace("{{nonce}}", nonce)
        .replace("{{state}}", state)
        .replace("{{title}}", &title)
        .replace("{{reason}}", &reason)
        .replace("{{service}}", &service);
    with_script(&html, nonce)
}

/// A page of the user's own, which goes on by itself like ours.
fn followed(own: &str, page: &Page<'_>, nonce: &str) -> String {
    let html = own.replace("{{nonce}}", nonce).replace("{{service}}", &escaped(page.service));
    let html = match html.find("</head>") {
        Some(at) => format!("{}{AGAIN}{}", &html[..at], &html[at..]),
        None => format!("{AGAIN}{html}"),
    };
    with_script(&html, nonce)
}

fn with_script(html: &str, nonce: &str) -> String {
    let at = html.rfind("</body>").unwrap_or(html.len());
    format!("{}<script nonce=\"{nonce}\">{FOLLOW}</script>\n{}", &html[..at], &html[at..])
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn check(page: &Page<'_>) -> (http::response::Parts, String) {
        let (head, body) = response(page).into_parts();
        let body = futures_util::FutureExt::now_or_never(body.collect()).expect("a full body is ready");
        (head, String::from_utf8(body.expect("and cannot fail").to_bytes().to_vec()).expect("text"))
    }

    fn page() -> Page<'static> {
        Page { own: None, service: "api", failed: None, nonce: 7 }
    }

    #[test]
    fn it_needs_nothing_from_elsewhere_and_fills_all_its_places() {
        let (head, html) = check(&page());
        assert_eq!(
            (head.status, &head.headers[RETRY_AFTER]),
            (StatusCode::SERVICE_UNAVAILABLE, &"4".parse().expect("a value"))
        );
        assert_eq!(head.headers[CACHE_CONTROL], "no-store");
        assert!(html.contains("<title>api is starting</title>") && html.contains("http-equiv=\"refresh\""));
        for absent in ["{{", "http://", "https://", "src=", "@import", "url("] {
            assert!(!html.contains(absent), "{absent}");
        }
        let policy = head.headers[CONTENT_SECURITY_POLICY].to_str().expect("text");
        let nonce = format!("{:032x}", 7);
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains(&format!("'nonce-{nonce}'")),
            "{policy}"
        );
        assert_eq!(html.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "its style and its script");
        assert!(html.len() < 8192, "{} bytes", html.len());
    }

    #[test]
    fn a_failed_start_is_said_and_cannot_be_markup() {
        let failed = Some(("<b>no</b>".to_owned(), Some(30)));
        let (head, html) = check(&Page { failed, ..page() });
        assert_eq!(head.headers[RETRY_AFTER], "30");
        assert!(html.contains("api did not start") && html.contains("&lt;b&gt;no&lt;/b&gt;"), "{html}");
    }

    #[test]
    fn a_page_of_ones_own_goes_on_by_itself_too() {
        let own = "<html><head><title>{{service}}</title></head><body><p>Soon</p></body></html>";
        let (_, html) = check(&Page { own: Some(own), ..page() });
        assert!(html.starts_with(&format!(
            "<html><head><title>api</title>{AGAIN}</head><body><p>Soon</p><script nonce="
        )));
        assert!(html.ends_with("</script>\n</body></html>"), "{html}");
        let (_, html) = check(&Page { own: Some("Soon"), ..page() });
        assert!(html.starts_with(&format!("{AGAIN}Soon<script")), "{html}");
    }
}
