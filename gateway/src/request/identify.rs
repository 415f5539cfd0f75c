//! Whom a request asks for, and whether it can be passed on so that nobody behind us reads another one in it: the checks that
//! hyper leaves to us (RFC 9110, 7.2; RFC 9112, 3.2 and 6). Pure. Absent: which service that is.

use std::{borrow::Cow, net::Ipv6Addr};

use http::{
    HeaderMap, HeaderValue, Method, Version,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    request::Parts,
};
use memchr::{memchr, memrchr};
use tidegate_config::model::Limits;

use super::refusal::Refusal;

/// The longest head, in bytes.
pub(crate) fn most_bytes(limits: &Limits) -> usize {
    usize::try_from(limits.header_bytes.0).unwrap_or(usize::MAX).max(8192)
}

/// Whether a head that came over HTTP/2 is within the limits; one of HTTP/1 is measured while it is read. Fields count as there
/// (RFC 9113, 6.5.2).
pub(crate) fn check_size(head: &Parts, limits: &Limits) -> Result<(), Refusal> {
    if head.version != Version::HTTP_2 {
        return Ok(());
    }
    let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    let fits = head.headers.len() <= limits.header_count as usize && bytes <= most_bytes(limits);
    if fits { Ok(()) } else { Err(Refusal::HeadTooLarge) }
}

/// The host that the request names, as it wrote it; empty for HTTP/1.0 without one. `chunked`: its body has no length.
pub(crate) fn identify(head: &mut Parts, chunked: bool) -> Result<HeaderValue, Refusal> {
    if head.method == Method::CONNECT {
        let why = "CONNECT leads nowhere here";
        // Over HTTP/2 it is a stream of its own that ends.
        return Err(if head.version == Version::HTTP_2 {
            Refusal::BadRequest(why)
        } else {
            Refusal::BadFraming(why)
        });
    }
    check_framing(&mut head.headers, chunked)?;
    check_target(head)?;
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (head.uri.authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return Err(Refusal::BadRequest("more than one Host")),
        (_, None, None) if head.version == Version::HTTP_11 => return Err(Refusal::BadRequest("no Host")),
        (Some(authority), _, _) => HeaderValue::from_str(authority.as_str())
            .map_err(|_| Refusal::BadRequest("a Host that is not text"))?,
        (None, Some(host), None) => host.clone(),
        (None, None, None) => HeaderValue::from_static(""),
    };
    let text = host.to_str().map_err(|_| Refusal::BadRequest("a Host that is not text"))?;
    if !is_authority(text) {
        return Err(Refusal::BadRequest("a Host that is not a host"));
    }
    Ok(host)
}

/// One framing, and one that we pass on as it was meant: a coding inside the chunks would lose its name here.
fn check_framing(headers: &mut HeaderMap, chunked: bool) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let (length, further) = (lengths.next(), lengths.next());
    if further.is_some() {
        return Err(Refusal::BadFraming("more than one Content-Length"));
    }
    // Nought before a number is octal to some.
    if let Some(length) = length.filter(|length| length.as_bytes().starts_with(b"0") && length.len() > 1) {
        let number = length.to_str().ok().and_then(|text| text.parse::<u64>().ok());
        let number = number.ok_or(Refusal::BadFraming("a Content-Length that is no number"))?;
        headers.insert(CONTENT_LENGTH, HeaderValue::from(number));
    }
    if chunked {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let exact = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if !exact || codings.next().is_some() {
            return Err(Refusal::BadFraming("a Transfer-Encoding that is not just chunked"));
        }
    }
    Ok(())
}

fn check_target(head: &Parts) -> Result<(), Refusal> {
    if head.uri.path() == "*" && head.method != Method::OPTIONS {
        return Err(Refusal::BadRequest("a target that only OPTIONS has"));
    }
    match head.uri.scheme_str() {
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(Refusal::BadRequest("a target that is not of http")),
    }
}

/// Whether this is a name or an address, and perhaps a port. Empty is legal, and nobody's.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => ("", port),
            _ => return false,
        },
        None => text.split_at(memchr(b':', text.as_bytes()).unwrap_or(text.len())),
    };
    let is_port = |port: &str| {
        port.is_empty() || (port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok())
    };
    let is_name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~');
    host.bytes().all(is_name)
        && !host.starts_with('.')
        && !host.as_bytes().windows(2).any(|pair| pair == b"..")
        && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// The host without its port, in lower case.
pub(crate) fn host_name(host: &HeaderValue) -> Cow<'_, str> {
    let host = host.to_str().unwrap_or_default();
    let colon = memrchr(b':', host.as_bytes()).filter(|colon| !host[*colon..].contains(']'));
    let name = host[..colon.unwrap_or(host.len())].trim_end_matches('.');
    if name.bytes().any(|c| c.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(method: &str, head: &[(&str, &str)], uri: &str, version: Version) -> Parts {
        let mut request = Request::builder().method(method).uri(uri).version(version);
        for (name, value) in head {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn check(head: &[(&str, &str)], uri: &str, version: Version) -> Result<String, Refusal> {
        let mut head = parts("GET", head, uri, version);
        let chunked = head.headers.contains_key(TRANSFER_ENCODING);
        let host = identify(&mut head, chunked)?;
        Ok(host_name(&host).into_owned())
    }

    #[test]
    fn a_request_names_exactly_one_host() {
        let ok = |host: &str| Ok(host.to_owned());
        assert_eq!(check(&[("host", "API.org:80")], "/", Version::HTTP_11), ok("api.org"));
        assert_eq!(check(&[("host", "b.org")], "http://a.org/x", Version::HTTP_11), ok("a.org"));
        assert_eq!(check(&[], "/", Version::HTTP_10), ok(""));
        assert_eq!(check(&[], "http://a.org/x", Version::HTTP_2), ok("a.org"));
        for (head, uri, why) in [
            (&[("host", "a"), ("host", "b")][..], "/", "more than one Host"),
            (&[][..], "/", "no Host"),
            (&[][..], "http://a.org/x", "no Host"),
            (&[("host", "a@b")][..], "/", "a Host that is not a host"),
            (&[("host", "a")][..], "http://u@a.org/x", "a Host that is not a host"),
            (&[("host", "a")][..], "ftp://a.org/x", "a target that is not of http"),
            (&[("host", "a")][..], "*", "a target that only OPTIONS has"),
        ] {
            assert_eq!(check(head, uri, Version::HTTP_11), Err(Refusal::BadRequest(why)), "{head:?} {uri}");
        }
    }

    #[test]
    fn a_body_has_one_framing() {
        for (head, why) in [
            (&[("content-length", "1"), ("content-length", "2")][..], "more than one Content-Length"),
            (&[("transfer-encoding", "gzip, chunked")][..], "a Transfer-Encoding that is not just chunked"),
            (
                &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")][..],
                "a Transfer-Encoding that is not just chunked",
            ),
        ] {
            let head: Vec<_> = [("host", "a")].iter().chain(head).copied().collect();
            assert_eq!(check(&head, "/", Version::HTTP_11), Err(Refusal::BadFraming(why)), "{head:?}");
        }
        let mut head = parts("POST", &[("host", "a"), ("content-length", "005")], "/", Version::HTTP_11);
        assert_eq!(identify(&mut head, false), Ok(HeaderValue::from_static("a")));
        assert_eq!(head.headers[CONTENT_LENGTH], "5");
    }

    #[test]
    fn what_may_stand_in_a_host() {
        for host in ["", "a", "a-b_c.org.", "a.org:80", "a.org:", "1.2.3.4:5", "[::1]", "[::1]:80"] {
            assert!(is_authority(host), "{host}");
        }
        for host in [
            "a b", "a,b", "a/b", "a?b", "a#b", "a\\b", "a%00", "a;b", "a:b", "a:1:2", "a:-1", "a:70000",
            "::1", "[::1", "[a]", "[::1]a", "a..b", ".a", "\"a\"", "a@b",
        ] {
            assert!(!is_authority(host), "{host}");
        }
    }

    #[test]
    fn ports_and_final_dots_are_not_part_of_the_name() {
        for (host, name) in
            [("a.org:80", "a.org"), ("a.org.", "a.org"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")]
        {
            assert_eq!(host_name(&HeaderValue::from_static(host)), name);
        }
    }
}
