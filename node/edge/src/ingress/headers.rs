//! What a proxy changes in headers. Pure.
//!
//! Headers that concern one connection only (RFC 9110, 7.6.1) end here. Who the client is the ingress says alone: it is the
//! edge of the cluster, and what a client claims of those before it is nobody's word.

use std::net::IpAddr;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Uri, Version};

/// What concerns one connection only, besides what `Connection` names.
const OF_CONNECTION: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    // This side has answered that itself by the time it passes the body on.
    header::EXPECT,
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// How a client came.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    /// Its address.
    pub from: IpAddr,
    /// The port at which it came in.
    pub port: u16,
    /// Whether over TLS.
    pub secure: bool,
}

/// The host that the client asked for: of the request's target with HTTP/2, else of its header.
pub fn host(uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    match uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => headers.get(header::HOST).cloned(),
    }
}

/// The protocol to which a client wants to change, such as `websocket`.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    names(headers, header::CONNECTION)
        .any(|name| name.eq_ignore_ascii_case("upgrade"))
        .then(|| headers.get(header::UPGRADE).cloned())?
}

/// Makes a client's headers those that the service gets.
pub fn to_service(headers: &mut HeaderMap, host: HeaderValue, came: Came) {
    let upgrade = upgrade(headers);
    // A client that takes trailers may have them; gRPC depends on it.
    let trailers = names(headers, header::TE).any(|name| name.eq_ignore_ascii_case("trailers"));
    end_of_connection(headers);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    keep_upgrade(headers, upgrade);
    headers.remove(header::FORWARDED);
    let proto = if came.secure { "https" } else { "http" };
    if let Ok(ip) = HeaderValue::from_str(&came.from.to_string()) {
        headers.insert(FORWARDED_FOR, ip.clone());
        headers.insert(REAL_IP, ip);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    headers.insert(FORWARDED_PORT, HeaderValue::from(came.port));
    headers.insert(FORWARDED_HOST, host.clone());
    headers.insert(header::HOST, host);
}

/// Makes a service's headers those that the client gets; `changes` where the connection changes its protocol.
pub fn to_client(headers: &mut HeaderMap, changes: bool) {
    let upgrade = upgrade(headers).filter(|_| changes);
    end_of_connection(headers);
    keep_upgrade(headers, upgrade);
}

fn keep_upgrade(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

fn end_of_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = names(headers, header::CONNECTION)
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect();
    for name in named.iter().chain(&OF_CONNECTION) {
        headers.remove(name);
    }
}

/// The head of a request for another one like it; what belongs to the client's connection stays behind.
pub fn head(parts: &Parts) -> Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.headers = parts.headers.clone();
    copy
}

/// A request as a server of HTTP/1.1 is asked that is no proxy: path and query as its target.
pub fn http1_form<B>(mut request: Request<B>) -> Request<B> {
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    *request.version_mut() = Version::HTTP_11;
    request
}

/// A request as HTTP/2 has it, where the host stands in the target.
pub fn http2_form<B>(mut request: Request<B>) -> Request<B> {
    if let Some(host) = request.headers_mut().remove(header::HOST) {
        let whole = Uri::builder().scheme("http").authority(host.as_bytes());
        let path = request.uri().path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if let Ok(uri) = whole.path_and_query(path).build() {
            *request.uri_mut() = uri;
        }
    }
    *request.version_mut() = Version::HTTP_2;
    request
}

/// The members of a list header.
pub fn names(headers: &HeaderMap, of: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(of).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn texts(headers: &HeaderMap) -> Vec<String> {
        let text = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        let mut texts: Vec<String> = headers.iter().map(text).collect();
        texts.sort();
        texts
    }

    const CAME: Came = Came {
        from: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        port: 8443,
        secure: true,
    };

    #[test]
    fn a_service_learns_who_asks_from_the_ingress_alone() {
        let mut asked = headers(&[
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("x-theirs", "2"),
            ("te", "trailers, deflate"),
            ("transfer-encoding", "chunked"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "gopher"),
            ("forwarded", "for=6.6.6.6"),
        ]);
        to_service(&mut asked, HeaderValue::from_static("web.example.com"), CAME);
        assert_eq!(
            texts(&asked),
            [
                "host: web.example.com",
                "te: trailers",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: web.example.com",
                "x-forwarded-port: 8443",
                "x-forwarded-proto: https",
                "x-real-ip: 127.0.0.1",
                "x-theirs: 2",
            ]
        );
    }

    #[test]
    fn a_change_of_protocol_is_passed_on() {
        let wish = &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        let mut asked = headers(wish);
        assert_eq!(upgrade(&asked).unwrap(), "websocket");
        to_service(&mut asked, HeaderValue::from_static("h"), CAME);
        assert_eq!(asked["connection"], "upgrade");
        assert_eq!(asked["upgrade"], "websocket");
        for (changes, left) in [(true, 2), (false, 0)] {
            let mut answered = headers(wish);
            to_client(&mut answered, changes);
            assert_eq!(answered.len(), left);
        }
        assert!(upgrade(&headers(&[("upgrade", "h2c")])).is_none());
    }

    #[test]
    fn the_host_is_the_targets_or_the_headers() {
        let of_header = headers(&[("host", "a.com")]);
        assert_eq!(host(&Uri::from_static("/x"), &of_header).unwrap(), "a.com");
        assert_eq!(
            host(&Uri::from_static("https://b.com:1/x"), &of_header).unwrap(),
            "b.com:1"
        );
        assert!(host(&Uri::from_static("/x"), &HeaderMap::new()).is_none());
    }
}
