//! The proxy of the API server: requests to pods, services and nodes, through the pod network.
//!
//! A request is passed on as it is: any method, bodies as streams both ways, upgrades too. What belongs to the connection or
//! to the client's identity is not passed on. What comes back is passed back; only addresses in it (redirects, links of
//! pages) are changed so that they lead here again.

mod address;
mod html;
pub(crate) mod pass;

use std::time::Duration;

use coracle_api::status::ApiError;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::body::ResponseBody;
use crate::chain::Call;
use crate::decode::RequestBody;
use crate::dial::Duplex;
use crate::registry::Scope;
use crate::respond::{self, Answer};
use crate::{document, outbound};
use address::Target;

/// How long a connection into the network may take to come about.
const CONNECT: Duration = Duration::from_secs(30);
/// The longest page whose links are changed; a longer one is passed on as it is.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Where a request came in, and what is left of its path.
struct Place {
    /// The path of the proxy itself, without a slash at its end.
    prefix: String,
    /// The rest, empty or with a slash at its beginning.
    rest: String,
    query: Option<String>,
}

impl Place {
    fn of(uri: &Uri, namespaced: bool) -> Self {
        // /api/v1/namespaces/NS/pods/NAME/proxy or /api/v1/nodes/NAME/proxy
        let depth = if namespaced { 7 } else { 5 };
        let path = uri.path();
        let end = path
            .char_indices()
            .filter(|(_, c)| *c == '/')
            .nth(depth)
            .map_or(path.len(), |(index, _)| index);
        let (prefix, rest) = path.split_at(end);
        Self {
            prefix: prefix.to_owned(),
            rest: rest.to_owned(),
            query: uri.query().map(str::to_owned),
        }
    }

    fn target(&self) -> String {
        let path = if self.rest.is_empty() { "/" } else { &self.rest };
        match &self.query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        }
    }
}

/// Answers `pods/NAME/proxy`, `services/NAME/proxy` and `nodes/NAME/proxy`.
pub(crate) async fn answer(
    call: &mut Call<'_>,
    scope: Scope<'_>,
    name: &str,
    body: RequestBody,
) -> Result<Answer, ApiError> {
    let place = Place::of(&call.parts.uri, scope.kind.namespaced);
    let (scheme, name, port) = address::split(name)
        .ok_or_else(|| ApiError::bad_request(format!("invalid {} request {name:?}", scope.kind.singular)))?;
    let object = document::tree(&*scope.record(name).await?)?;
    if scope.kind.plural == "nodes"
        && port.is_empty()
        && call.parts.method == Method::GET
        && let Some(answer) = ask(call, name, &place).await?
    {
        return Ok(answer);
    }
    let target = match scope.kind.plural.as_ref() {
        "pods" => address::pod(&object, scheme, port)?,
        "services" => address::service(&object, scheme, port)?,
        _ => address::node(&object, scheme, port)?,
    };
    let upgrade = pass::wants_upgrade(&call.parts.headers);
    let plain = matches!(call.parts.method, Method::GET | Method::HEAD);
    if place.rest.is_empty() && plain && !upgrade {
        return Ok(to_directory(&place));
    }
    let stream = connect(call, &target).await?;
    let request = request(call, &place, &target, upgrade, body)?;
    let client_side = if upgrade { call.parts.extensions.remove() } else { None };
    let answered = pass::exchange(stream, request).await?;
    if answered.status() == StatusCode::SWITCHING_PROTOCOLS {
        return pass::switch(answered, client_side, call.core.closing.child_token());
    }
    pass_back(answered, &place, &target).await
}

/// What the node itself tells, where it is connected; nothing where its API has to be looked for at its address.
async fn ask(call: &Call<'_>, node: &str, place: &Place) -> Result<Option<Answer>, ApiError> {
    let answered = match call.core.nodes.get(node, &place.target()).await {
        Ok(answered) => answered,
        Err(error) if error.code == 503 => return Ok(None),
        Err(error) => return Err(error),
    };
    let status = StatusCode::from_u16(answered.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let content_type = HeaderValue::from_str(&answered.content_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    Ok(Some(respond::typed(
        status,
        content_type,
        ResponseBody::full(answered.body),
    )))
}

/// 301 to the same place as a directory, so that relative links of its page lead below it.
fn to_directory(place: &Place) -> Answer {
    let mut location = format!("{}/", place.prefix);
    if let Some(query) = &place.query {
        location.push('?');
        location.push_str(query);
    }
    let mut answer = respond::text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(location) = HeaderValue::from_str(&location) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

fn unreachable(target: &Target, error: impl std::fmt::Display) -> ApiError {
    ApiError::service_unavailable(format!(
        "error trying to reach service: dial tcp {}:{}: {error}",
        target.host, target.port
    ))
}

async fn connect(call: &Call<'_>, target: &Target) -> Result<Box<dyn Duplex>, ApiError> {
    let dial = async {
        let stream = call.core.cluster.connect(&target.host, target.port).await;
        let stream = stream.map_err(|error| target.refused(&error))?;
        if !target.tls {
            return Ok(stream);
        }
        // Nobody says which certificate a pod should have: as in Kubernetes, none is asked for.
        let secured = outbound::connect_unverified(stream, &target.host).await;
        secured.map_err(|error| unreachable(target, error))
    };
    match tokio::time::timeout(CONNECT, dial).await {
        Ok(connected) => connected,
        Err(_) => Err(unreachable(target, "i/o timeout")),
    }
}

fn request(
    call: &Call<'_>,
    place: &Place,
    target: &Target,
    upgrade: bool,
    body: RequestBody,
) -> Result<Request<RequestBody>, ApiError> {
    let mut headers = pass::onward(&call.parts.headers, upgrade);
    let host = headers
        .get(header::HOST)
        .cloned()
        .or_else(|| HeaderValue::from_str(call.parts.uri.authority()?.as_str()).ok())
        .or_else(|| HeaderValue::from_str(&target.host).ok());
    if let Some(host) = host {
        headers.insert(HeaderName::from_static("x-forwarded-host"), host.clone());
        headers.insert(header::HOST, host);
    }
    if let Ok(uri) = HeaderValue::from_str(call.parts.uri.path()) {
        headers.insert(HeaderName::from_static("x-forwarded-uri"), uri);
    }
    headers.insert(
        HeaderName::from_static("x-forwarded-proto"),
        HeaderValue::from_static("https"),
    );
    pass::request(&call.parts.method, &place.target(), headers, body)
}

async fn pass_back(answered: Response<Incoming>, place: &Place, target: &Target) -> Result<Answer, ApiError> {
    let (mut parts, body) = answered.into_parts();
    pass::without_hops(&mut parts.headers);
    if let Some(location) = parts
        .headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        && let Some(here) = address::location(location, &place.prefix, target)
        && let Ok(value) = HeaderValue::from_str(&here)
    {
        parts.headers.insert(header::LOCATION, value);
    }
    let body = if is_page(&parts.headers) {
        let page = body
            .collect()
            .await
            .map_err(|error| ApiError::service_unavailable(error.to_string()))?;
        let changed = html::rebase(&page.to_bytes(), &place.prefix);
        parts.headers.remove(header::CONTENT_LENGTH);
        ResponseBody::full(changed)
    } else {
        pass::stream(body)
    };
    Ok(Response::from_parts(parts, body))
}

/// Whether this is a page whose links can be changed: plain HTML of a known and moderate length.
fn is_page(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let length = text(header::CONTENT_LENGTH).parse::<usize>().ok();
    text(header::CONTENT_TYPE).starts_with("text/html")
        && text(header::CONTENT_ENCODING).is_empty()
        && length.is_some_and(|length| length <= PAGE_BYTES)
}
