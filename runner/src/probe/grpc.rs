//! Asks by gRPC's health protocol (grpc.health.v1, unary `Check`), over HTTP/2 in clear text. Its two messages have a field
//! each and are written by hand.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::Failure;

/// What a good answer has: field 1, as a number, is `SERVING`.
const SERVING: [u8; 2] = [0x08, 1];

/// Nobody needs more to say how he is.
const LONGEST: usize = 64 << 10;

/// Asks how `service` is; the empty name stands for the whole server.
pub(super) async fn check(stream: TcpStream, address: &str, service: &str) -> Result<(), Failure> {
    let failed = |why: String| Failure::Grpc { service: service.into(), why };
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "tidegate-probe")
        .body(Full::new(question(service)));
    let request = request.map_err(|error| failed(error.to_string()))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| failed(error.to_string()))?;
    let answer = async {
        let (head, body) =
            sender.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
        let body = Limited::new(body, LONGEST).collect().await.map_err(|error| error.to_string())?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        judge(head.status, &head.headers, &body.to_bytes(), &trailers)
    };
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    let answered = tokio::select! {
        biased;
        answered = answer.as_mut() => answered,
        // A connection that ended may have left an answer behind.
        _ = connection.as_mut() => answer.await,
    };
    answered.map_err(failed)
}

/// A whole `HealthCheckRequest`: uncompressed, its length, field 1 as text.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    Bytes::from([&[0], &length[..], &message].concat())
}

fn varint(message: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        message.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    message.push(u8::try_from(number).unwrap_or(0));
}

/// Whether an answer says that all is well, and what it says instead.
fn judge(status: StatusCode, head: &HeaderMap, body: &[u8], trailers: &HeaderMap) -> Result<(), String> {
    if status != StatusCode::OK {
        return Err(format!("answered {status}, which is not gRPC"));
    }
    let said = |name| {
        let value = trailers.get(name).or_else(|| head.get(name));
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    match (said("grpc-status"), body) {
        ("0", [0, _, _, _, _, message @ ..]) if *message == SERVING => Ok(()),
        ("0", [0, _, _, _, _, message @ ..]) => Err(match message {
            [0x08, 2] => "NOT_SERVING".into(),
            [0x08, 3] => "SERVICE_UNKNOWN".into(),
            [] | [0x08, 0] => "UNKNOWN".into(),
            _ => "an answer that is not understood".into(),
        }),
        ("", _) => Err("an answer without grpc-status".into()),
        ("5", _) => Err("no such service (grpc-status 5)".into()),
        ("12", _) => Err("it has no health service, grpc.health.v1 (grpc-status 12)".into()),
        (code, _) => Err(format!("grpc-status {code} {}", said("grpc-message")).trim_end().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_as_protobuf_writes_it() {
        assert_eq!(question(""), &[0, 0, 0, 0, 0][..]);
        assert_eq!(question("ab"), &[0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b'][..]);
        let long = question(&"x".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
    }

    #[test]
    fn only_serving_is_well() {
        let fields = |status: &str| {
            let status = (http::HeaderName::from_static("grpc-status"), status.parse().expect("a value"));
            HeaderMap::from_iter([status])
        };
        let none = HeaderMap::new();
        let message = |bytes: &[u8]| [&[0, 0, 0, 0, 2], bytes].concat();
        for (body, trailers, want) in [
            (message(&[8, 1]), fields("0"), Ok(())),
            (message(&[8, 2]), fields("0"), Err("NOT_SERVING")),
            (message(&[8, 3]), fields("0"), Err("SERVICE_UNKNOWN")),
            (message(&[]), fields("0"), Err("UNKNOWN")),
            (message(&[8, 1]), none.clone(), Err("an answer without grpc-status")),
            (vec![], fields("12"), Err("it has no health service, grpc.health.v1 (grpc-status 12)")),
            (vec![], fields("14"), Err("grpc-status 14")),
        ] {
            let said = judge(StatusCode::OK, &none, &body, &trailers);
            assert_eq!(said, want.map_err(str::to_owned), "{body:?}");
        }
        assert!(judge(StatusCode::OK, &fields("5"), &[], &none).is_err(), "trailers only");
        assert!(judge(StatusCode::NOT_FOUND, &fields("0"), &message(&[8, 1]), &none).is_err());
    }
}
