//! The gRPC probe: asks the health service that gRPC servers have, over HTTP/2 without TLS.
//!
//! One unary call with a message of one field each way is all that is needed of the protocol, so it is written out here.

use super::Answer;
use bytes::{BufMut, Bytes, BytesMut};
use coracle_net::Fabric;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::GRPCAction;
use std::net::{IpAddr, SocketAddr};

/// The longest answer that is read: a health answer has seven bytes.
const MAX_ANSWER_BYTES: usize = 4 << 10;

/// The states of a service, by number.
const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u64 = 1;

/// Asks once.
pub async fn check(fabric: &Fabric, pod_ip: IpAddr, action: &GRPCAction) -> Answer {
    let Ok(port) = u16::try_from(action.port) else {
        return Answer::Bad(format!("{} is not a port", action.port));
    };
    let address = SocketAddr::new(pod_ip, port);
    let service = action.service.as_deref().unwrap_or_default();
    match attempt(fabric, pod_ip, address, service).await {
        Ok(SERVING) => Answer::Good,
        Ok(state) => {
            let name = usize::try_from(state).ok().and_then(|state| STATES.get(state));
            Answer::Bad(format!(
                "service unhealthy (responded with {:?})",
                name.copied().unwrap_or("UNKNOWN")
            ))
        }
        Err(why) => Answer::Bad(format!("service {address}: {why}")),
    }
}

async fn attempt(fabric: &Fabric, pod_ip: IpAddr, address: SocketAddr, service: &str) -> Result<u64, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = fabric
        .dial_pod(pod_ip, address)
        .await
        .map_err(|error| format!("failed to connect: {error}"))?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| text(&error))?;
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "kube-probe/1.36")
        .body(Full::new(question(service)))
        .map_err(|error| text(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| text(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| error.to_string())?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        judge(&head.headers, &trailers)?;
        state(&body.to_bytes()).ok_or_else(|| "the answer is no health message".to_owned())
    };
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        state = &mut exchange => state,
        _ = &mut connection => exchange.await,
    }
}

/// Whether the call went well, by the status that comes after the message, or instead of it.
fn judge(headers: &HeaderMap, trailers: &HeaderMap) -> Result<(), String> {
    let find = |name| trailers.get(name).or_else(|| headers.get(name));
    let told = |name| find(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match told("grpc-status") {
        "0" => Ok(()),
        "12" => Err("this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned()),
        "" => Err("the answer has no gRPC status: is this a gRPC server?".to_owned()),
        code => Err(format!("health rpc failed: code {code}: {}", told("grpc-message"))),
    }
}

/// A message with the service's name as its field 1, in the frame of a call.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0); // not compressed
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put(message);
    frame.freeze()
}

/// Field 1 of the message in a frame; a message without it says 0.
fn state(frame: &[u8]) -> Option<u64> {
    match frame.split_at_checked(5)? {
        ([0, ..], []) => Some(0),
        ([0, ..], [0x08, state, ..]) if *state < 0x80 => Some(u64::from(*state)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_as_the_protocol_has_them() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(question(&"x".repeat(200))[5..8], [0x0a, 0xc8, 0x01]);
        assert_eq!(state(&[0, 0, 0, 0, 2, 8, 1]), Some(SERVING));
        assert_eq!(state(&[0, 0, 0, 0, 0]), Some(0));
        for wrong in [&[][..], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 1, 9]] {
            assert_eq!(state(wrong), None);
        }
    }

    #[test]
    fn the_status_of_a_call() {
        let map = |code: &str| HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]);
        let none = HeaderMap::new();
        assert_eq!(judge(&none, &map("0")), Ok(()));
        assert!(judge(&map("12"), &none).unwrap_err().contains("does not implement"));
        assert!(judge(&none, &none).unwrap_err().contains("no gRPC status"));
    }
}
