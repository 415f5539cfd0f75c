//! What pages of other origins may do (the Fetch standard's CORS). Pure. tower-http's layer takes every OPTIONS for a
//! preflight; here only those are that a browser would send, and the service gets the others.

use http::{
    HeaderMap, HeaderValue, Method,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};
use tidegate_config::model::{self, Which};

/// The rules, ready to be answered with.
#[derive(Debug)]
pub(crate) struct Cors {
    origins: Which,
    /// `None`: whatever is asked for.
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
    credentials: bool,
}

impl Cors {
    /// From what `check` has let through.
    pub(crate) fn new(rules: &model::Cors) -> Self {
        let joined = |which: &Which| match which {
            Which::Any => None,
            Which::Of(words) => HeaderValue::try_from(words.join(", ")).ok(),
        };
        let expose = HeaderValue::try_from(rules.expose.join(", ")).ok();
        Self {
            origins: rules.origins.clone(),
            methods: joined(&rules.methods),
            headers: joined(&rules.headers),
            expose: expose.filter(|expose| !expose.is_empty()),
            max_age: HeaderValue::from(rules.max_age.as_secs()),
            credentials: rules.credentials,
        }
    }

    /// The fields of the answer to a preflight; `None` if the request is none. Without leave there is no
    /// `Access-Control-Allow-Origin` among them, which is what browsers look for.
    pub(crate) fn preflight(&self, method: &Method, asked: &HeaderMap) -> Option<HeaderMap> {
        let wanted = asked.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| *method == Method::OPTIONS)?;
        let origin = asked.get(ORIGIN)?;
        let mut answer = HeaderMap::new();
        let varies =
            HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
        answer.insert(VARY, varies);
        let Some(allowed) = self.allowed(origin) else { return Some(answer) };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.as_ref().unwrap_or(wanted).clone());
        let headers = self.headers.as_ref().or_else(|| asked.get(ACCESS_CONTROL_REQUEST_HEADERS));
        if let Some(headers) = headers.filter(|headers| !headers.is_empty()) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
        }
        answer.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        self.with_credentials(&mut answer);
        Some(answer)
    }

    /// Puts our word into a response in the place of the service's.
    pub(crate) fn mark(&self, origin: Option<&HeaderValue>, response: &mut HeaderMap) {
        for name in
            [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_EXPOSE_HEADERS]
        {
            response.remove(name);
        }
        if self.origins != Which::Any && !response.get_all(VARY).iter().any(names_origin) {
            response.append(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(allowed) = origin.and_then(|origin| self.allowed(origin)) else { return };
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if let Some(expose) = &self.expose {
            response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
        self.with_credentials(response);
    }

    fn with_credentials(&self, headers: &mut HeaderMap) {
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// What stands in `Access-Control-Allow-Origin` for this origin.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        match &self.origins {
            Which::Any => Some(HeaderValue::from_static("*")),
            Which::Of(origins) => {
                let text = origin.to_str().ok()?;
                origins.iter().any(|allowed| matches(allowed, text)).then(|| origin.clone())
            }
        }
    }
}

fn names_origin(vary: &HeaderValue) -> bool {
    let is_origin = |name: &str| name.trim().eq_ignore_ascii_case("origin");
    vary.to_str().is_ok_and(|names| names.split(',').any(is_origin))
}

/// Whether an origin is the allowed one, or one below it (`https://*.example.org`).
fn matches(allowed: &str, origin: &str) -> bool {
    let Some((scheme, suffix)) = allowed.split_once("*.") else { return allowed == origin };
    let name = origin.strip_prefix(scheme).and_then(|rest| rest.strip_suffix(suffix));
    let below = name.and_then(|name| name.strip_suffix('.'));
    below.is_some_and(|below| {
        !below.is_empty() && below.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::http1::fields::of as headers;

    fn rules(origins: &[&str], credentials: bool) -> Cors {
        let origins = match origins {
            ["*"] => Which::Any,
            list => Which::Of(list.iter().map(|origin| (*origin).to_owned()).collect()),
        };
        let headers = Which::Of(vec!["x-token".into()]);
        Cors::new(&model::Cors {
            origins,
            credentials,
            headers,
            expose: vec!["x-total".into()],
            ..model::Cors::default()
        })
    }

    #[test]
    fn origins_are_matched_as_a_whole() {
        for (allowed, origin, want) in [
            ("https://a.org", "https://a.org", true),
            ("https://a.org", "https://a.org.evil.org", false),
            ("https://a.org", "http://a.org", false),
            ("https://a.org", "https://a.org:8443", false),
            ("https://a.org", "null", false),
            ("https://*.a.org", "https://x.a.org", true),
            ("https://*.a.org", "https://x.y.a.org", true),
            ("https://*.a.org", "https://a.org", false),
            ("https://*.a.org", "https://.a.org", false),
            ("https://*.a.org", "https://evila.org", false),
            ("https://*.a.org", "https://evil.org/.a.org", false),
            ("https://*.a.org:8443", "https://x.a.org:8443", true),
            ("https://*.a.org:8443", "https://x.a.org", false),
        ] {
            assert_eq!(matches(allowed, origin), want, "{allowed} {origin}");
        }
    }

    #[test]
    fn only_what_a_browser_sends_first_is_a_preflight() {
        let cors = rules(&["https://a.org"], true);
        let asked = [("origin", "https://a.org"), ("access-control-request-method", "PUT")];
        let answer = cors.preflight(&Method::OPTIONS, &headers(&asked)).expect("a preflight");
        for (name, want) in [
            ("access-control-allow-origin", "https://a.org"),
            ("access-control-allow-methods", "GET, HEAD, POST"),
            ("access-control-allow-headers", "x-token"),
            ("access-control-allow-credentials", "true"),
            ("access-control-max-age", "600"),
        ] {
            assert_eq!(answer[name], want, "{name}");
        }
        assert!(cors.preflight(&Method::OPTIONS, &headers(&asked[..1])).is_none());
        assert!(cors.preflight(&Method::GET, &headers(&asked)).is_none());
        let strange = headers(&[("origin", "https://b.org"), ("access-control-request-method", "PUT")]);
        let refused = cors.preflight(&Method::OPTIONS, &strange).expect("a preflight");
        assert_eq!(refused.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["vary"]);
    }

    #[test]
    fn our_word_stands_in_the_place_of_the_services() {
        let said = headers(&[("access-control-allow-origin", "*"), ("vary", "Accept")]);
        let check = |cors: &Cors, origin: Option<&'static str>| {
            let mut response = said.clone();
            cors.mark(origin.map(HeaderValue::from_static).as_ref(), &mut response);
            let allowed = response
                .get(ACCESS_CONTROL_ALLOW_ORIGIN)
                .map(|value| value.to_str().expect("text").to_owned());
            (
                allowed,
                response.get_all(VARY).iter().count(),
                response.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS),
            )
        };
        let one = rules(&["https://a.org"], false);
        assert_eq!(check(&one, Some("https://a.org")), (Some("https://a.org".into()), 2, true));
        assert_eq!(check(&one, Some("https://b.org")), (None, 2, false));
        assert_eq!(check(&one, None), (None, 2, false));
        assert_eq!(check(&rules(&["*"], false), Some("https://b.org")), (Some("*".into()), 1, true));
        let mut varied = headers(&[("vary", "Accept, origin")]);
        one.mark(None, &mut varied);
        assert_eq!(varied.get_all(VARY).iter().count(), 1);
    }
}
