//! Requests over `wasi:http`, which the node carries out in the pod's network.

use crate::values::said;
use std::io::Write;
use std::time::Duration;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::streams::{InputStream, StreamError};

/// How many times a request is sent on to another place.
const MAX_REDIRECTS: usize = 10;

/// Bytes of a body that are moved at once.
const PIECE_BYTES: u64 = 16 * 1024;

/// What one write to a body takes.
const WRITE_BYTES: usize = 4096;

/// A request.
pub struct Ask {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub timeout: Option<Duration>,
    pub redirects: bool,
}

/// What came back.
pub struct Reply {
    pub url: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    response: IncomingResponse,
}

pub fn split_url(url: &str) -> Result<(Scheme, String, String), String> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        Some((other, _)) => return Err(format!("{other} is not supported")),
        None => (Scheme::Http, url),
    };
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    Ok((scheme, authority.to_owned(), path))
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch,
        "OPTIONS" => Method::Options,
        other => Method::Other(other.to_owned()),
    }
}

fn wrong(url: &str, code: &ErrorCode) -> String {
    let host = split_url(url).map_or_else(|_| url.to_owned(), |(_, host, _)| host);
    match code {
        ErrorCode::ConnectionRefused => format!("can't connect to {host}: Connection refused"),
        ErrorCode::DnsError(_) => format!("bad address '{host}'"),
        ErrorCode::DnsTimeout | ErrorCode::ConnectionTimeout => format!("can't connect to {host}: timed out"),
        ErrorCode::ConnectionReadTimeout | ErrorCode::HttpResponseTimeout => "download timed out".to_owned(),
        ErrorCode::DestinationIpUnroutable | ErrorCode::DestinationNotFound => {
            format!("can't connect to {host}: Network is unreachable")
        }
        ErrorCode::TlsCertificateError => {
            format!("{host}: the certificate is not one that this cluster's authority signed")
        }
        ErrorCode::InternalError(Some(why)) => format!("can't connect to {host}: {why}"),
        other => format!("can't connect to {host}: {other:?}"),
    }
}

impl Ask {
    pub fn send(&self) -> Result<Reply, String> {
        let (mut url, mut name) = (self.url.clone(), self.method.clone());
        for _ in 0..=MAX_REDIRECTS {
            let reply = self.once(&url, &name)?;
            let place = reply
                .headers
                .iter()
                .find(|(header, _)| header.eq_ignore_ascii_case("location"));
            let Some((_, place)) = place.filter(|_| self.redirects && (300..400).contains(&reply.status)) else {
                return Ok(reply);
            };
            url = match (place.contains("://"), split_url(&url)?) {
                (true, _) => place.clone(),
                (false, (scheme, host, _)) => {
                    let scheme = if matches!(scheme, Scheme::Https) {
                        "https"
                    } else {
                        "http"
                    };
                    format!("{scheme}://{host}{place}")
                }
            };
            if matches!(reply.status, 301..=303) && name == "POST" {
                name = "GET".into();
            }
        }
        Err("too many redirects".into())
    }

    fn once(&self, url: &str, name: &str) -> Result<Reply, String> {
        let (scheme, authority, path) = split_url(url)?;
        let refused = |()| format!("bad URL '{url}'");
        let headers = Fields::new();
        for (header, value) in &self.headers {
            headers
                .append(header, value.as_bytes())
                .map_err(|_| format!("header '{header}' cannot be sent"))?;
        }
        let with_body = !self.body.is_empty() && name == self.method;
        if with_body {
            // Not every host lets the length be set; it finds its own way to say where the body ends.
            let _ = headers.append("content-length", self.body.len().to_string().as_bytes());
        }
        let request = OutgoingRequest::new(headers);
        request.set_method(&method(name)).map_err(refused)?;
        request.set_scheme(Some(&scheme)).map_err(refused)?;
        request.set_authority(Some(&authority)).map_err(refused)?;
        request.set_path_with_query(Some(&path)).map_err(refused)?;
        let body = request.body().map_err(refused)?;
        let options = RequestOptions::new();
        if let Some(timeout) = self.timeout {
            let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
            // A host that knows no such limit has its own.
            let _ = options.set_connect_timeout(Some(nanos));
            let _ = options.set_first_byte_timeout(Some(nanos));
        }
        let future = outgoing_handler::handle(request, Some(options)).map_err(|code| wrong(url, &code))?;
        if with_body {
            let stream = body.write().map_err(refused)?;
            for piece in self.body.chunks(WRITE_BYTES) {
                if stream.blocking_write_and_flush(piece).is_err() {
                    break; // the answer says why
                }
            }
            drop(stream);
        }
        let _ = OutgoingBody::finish(body, None);
        future.subscribe().block();
        let response = match future.get() {
            Some(Ok(answer)) => answer.map_err(|code| wrong(url, &code))?,
            _ => return Err("no answer came".into()),
        };
        let headers = response.headers().entries();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Reply {
            url: url.to_owned(),
            status: response.status(),
            headers: headers.into_iter().map(|(name, value)| (name, text(value))).collect(),
            response,
        })
    }
}

impl Reply {
    /// Writes the body, and returns its size.
    pub fn copy_to(self, out: &mut dyn Write) -> Result<u64, String> {
        let body: IncomingBody = self.response.consume().map_err(|()| "the answer has no body")?;
        let stream: InputStream = body.stream().map_err(|()| "the answer has no body")?;
        let mut size = 0;
        loop {
            match stream.blocking_read(PIECE_BYTES) {
                Ok(piece) => {
                    size += piece.len() as u64;
                    out.write_all(&piece).and_then(|()| out.flush()).map_err(said)?;
                }
                Err(StreamError::Closed) => return Ok(size),
                Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
            }
        }
    }
}
