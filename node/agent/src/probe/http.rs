//! The HTTP probe: a GET that is answered with 200 to 399. Also what an `httpGet` hook does.

use super::{Answer, port};
use bytes::Bytes;
use coracle_net::Fabric;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use std::net::{IpAddr, SocketAddr};

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
    if action.scheme.as_deref() == Some("HTTPS") {
        return Err(Answer::Unsupported(
            "HTTPS probes are not available on this node yet; use scheme HTTP".to_owned(),
        ));
    }
    let port = port(container, &action.port)
        .ok_or_else(|| Answer::Bad(format!("the container has no port {:?}", action.port)))?;
    let address = SocketAddr::new(pod_ip, port);
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let url = format!("http://{address}{slash}{path}");
    let bad = |error: &dyn std::fmt::Display| Answer::Bad(format!("Get {url:?}: {error}"));

    let request = request(action, address, &format!("{slash}{path}")).map_err(|error| bad(&error))?;
    let stream = fabric.dial_pod(pod_ip, address).await.map_err(|error| bad(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| bad(&error))?;
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
        status = &mut exchange => status.map_err(|error| bad(&error)),
        _ = &mut connection => exchange.await.map_err(|error| bad(&error)),
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
