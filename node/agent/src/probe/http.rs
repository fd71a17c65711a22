//! The HTTP probe: a GET that is answered with 200 to 399. Also what an `httpGet` hook does.

use super::{Answer, port, tls};
use bytes::Bytes;
use coracle_net::Fabric;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncRead, AsyncWrite};

/// How much of an unhappy answer is read for the event.
const MAX_BODY_BYTES: usize = 10 << 10;

/// Asks once.
pub async fn get(fabric: &Fabric, pod_ip: IpAddr, container: &Container, action: &HTTPGetAction) -> Answer {
    match attempt(fabric, pod_ip, container, action).await {
        Ok(status) if (200..400).contains(&status) => Answer::Good,
        Ok(status) => Answer::Bad(format!("HTTP probe failed with statuscode: {status}")),
        Err(failure) => failure,
    }
}

async fn attempt(
    fabric: &Fabric,
    pod_ip: IpAddr,
    container: &Container,
    action: &HTTPGetAction,
) -> Result<u16, Answer> {
    let https = action.scheme.as_deref() == Some("HTTPS");
    let port = port(container, &action.port)
        .ok_or_else(|| Answer::Bad(format!("the container has no port {:?}", action.port)))?;
    let address = SocketAddr::new(pod_ip, port);
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let scheme = if https { "https" } else { "http" };
    let url = format!("{scheme}://{address}{slash}{path}");
    let bad = |error: &dyn std::fmt::Display| Answer::Bad(format!("Get {url:?}: {error}"));

    let request = request(action, address, &format!("{slash}{path}")).map_err(|error| bad(&error))?;
    let stream = fabric.dial_pod(pod_ip, address).await.map_err(|error| bad(&error))?;
    let exchange = match https {
        true => {
            let stream = tls::connect(pod_ip, stream).await.map_err(|error| bad(&error))?;
            exchange(stream, request).await
        }
        false => exchange(stream, request).await,
    };
    exchange.map_err(|error| bad(&error))
}

/// Sends a request over a connection of its own, and returns the status of the answer.
async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<u16, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        // The answer is read so that a simple server is not cut off in the middle of it.
        let _ = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await;
        Ok::<u16, hyper::Error>(status)
    };
    // The connection needs polling while the exchange goes on, and ends with it: no task of its own.
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        status = &mut exchange => status,
        _ = &mut connection => exchange.await,
    }
}

fn request(action: &HTTPGetAction, address: SocketAddr, path: &str) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request = Request::get(path)
        .header(header::USER_AGENT, "kube-probe/1.36")
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close");
    let own = action.http_headers.as_deref().unwrap_or_default();
    let named_host = own.iter().any(|own| own.name.eq_ignore_ascii_case("host"));
    if !named_host {
        match action.host.as_deref().filter(|host| !host.is_empty()) {
            Some(host) => request = request.header(header::HOST, host),
            None => request = request.header(header::HOST, address.to_string()),
        }
    }
    for own in own {
        request = request.header(own.name.as_str(), own.value.as_str());
    }
    request.body(Empty::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_net::{FabricConfig, PodIdentity};
    use serde_json::json;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;

    /// A server in a pod, with a certificate that nobody has signed.
    fn acceptor() -> TlsAcceptor {
        let made = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    #[tokio::test]
    async fn a_probe_over_tls_takes_any_certificate_and_needs_one() {
        let fabric = Fabric::new(FabricConfig::default());
        let identity = PodIdentity {
            namespace: "ns".into(),
            name: "p".into(),
            uid: "u".into(),
        };
        let ip: IpAddr = [10, 244, 0, 9].into();
        let pod = fabric.add_pod(identity, vec![ip]).unwrap();
        let listener = pod.bind(SocketAddr::new(ip, 8443)).unwrap();
        listener.listen(8).unwrap();
        let server = tokio::spawn(async move {
            let stream = listener.accept_stream().await.unwrap();
            let mut stream = acceptor().accept(stream).await.unwrap();
            let mut head = [0; 64];
            let read = stream.read(&mut head).await.unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&head[..read]).into_owned()
        });
        let action = |scheme: &str| -> HTTPGetAction {
            serde_json::from_value(json!({"port": 8443, "path": "/well", "scheme": scheme})).unwrap()
        };
        let container = Container::default();
        assert_eq!(get(&fabric, ip, &container, &action("HTTPS")).await, Answer::Good);
        assert!(server.await.unwrap().starts_with("GET /well HTTP/1.1"));
    }
}
