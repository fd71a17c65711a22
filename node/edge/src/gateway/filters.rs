//! What a route changes in requests and answers, and where it sends clients. Pure.

use std::sync::Arc;

use http::header::{HOST, HeaderName};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};

use super::turns::{MIRRORS, Turns};
use crate::ingress::{Came, Target};

/// All filters of a rule or of a backend.
#[derive(Debug, Default)]
pub struct Filters {
    /// What is done with requests, in the order of the route.
    pub request: Vec<Step>,
    /// Changes to the headers of answers.
    pub response: HeaderChanges,
    /// Where clients are sent, in place of any backend.
    pub redirect: Option<Redirect>,
}

/// One filter of requests.
#[derive(Debug)]
pub enum Step {
    /// Headers are changed.
    Headers(HeaderChanges),
    /// What the request is for is changed.
    Rewrite(Rewrite),
    /// It goes to another service too, as it is after the steps before.
    Mirror(Mirror),
}

/// Changes to headers: first those that are set, then those added, then those removed.
#[derive(Debug, Default)]
pub struct HeaderChanges {
    /// Headers that get this value in place of others.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Headers that get this value besides others.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Headers that go.
    pub remove: Vec<HeaderName>,
}

impl HeaderChanges {
    /// Makes the changes.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

/// How a path is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathChange {
    /// As a whole.
    Whole(String),
    /// Only the prefix that has matched.
    Prefix(String),
}

impl PathChange {
    fn of(&self, path: &str, prefix: Option<&str>) -> String {
        match self {
            Self::Whole(whole) => whole.clone(),
            Self::Prefix(instead) => {
                let rest = prefix.and_then(|prefix| path.strip_prefix(prefix)).unwrap_or_default();
                let instead = instead.trim_end_matches('/');
                match rest.is_empty() && instead.is_empty() {
                    true => "/".to_owned(),
                    false => format!("{instead}{rest}"),
                }
            }
        }
    }
}

/// What is known of a request besides itself.
#[derive(Debug, Clone, Copy)]
pub struct Matched<'a> {
    /// The prefix that its path has matched.
    pub prefix: Option<&'a str>,
    /// The host that it is for, as the client sent it.
    pub host: &'a str,
    /// How the client came.
    pub came: Came,
}

/// Where clients are sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Redirect {
    /// With which status.
    pub status: StatusCode,
    /// `http` or `https`, where it is another.
    pub scheme: Option<String>,
    /// Another host.
    pub hostname: Option<String>,
    /// Another port.
    pub port: Option<u16>,
    /// Another path.
    pub path: Option<PathChange>,
}

impl Redirect {
    /// The location for a request; none where it would be no header.
    pub fn location(&self, uri: &Uri, matched: &Matched<'_>) -> Option<HeaderValue> {
        let came = if matched.came.secure { "https" } else { "http" };
        let scheme = self.scheme.as_deref().unwrap_or(came);
        let usual = |scheme: &str| if scheme == "https" { 443 } else { 80 };
        // Another scheme means its usual port, unless one is named; the same scheme, the listener's.
        let port = self.port.unwrap_or(match self.scheme {
            Some(_) => usual(scheme),
            None => matched.came.port,
        });
        let host = self.hostname.as_deref().unwrap_or(crate::ingress::bare(matched.host));
        let path = match &self.path {
            Some(change) => change.of(uri.path(), matched.prefix),
            None => uri.path().to_owned(),
        };
        let port = if port == usual(scheme) {
            String::new()
        } else {
            format!(":{port}")
        };
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        HeaderValue::try_from(format!("{scheme}://{host}{port}{path}{query}")).ok()
    }
}

/// A service that gets copies of requests.
#[derive(Debug)]
pub struct Mirror {
    /// The service.
    pub target: Arc<Target>,
    /// Its share of the requests,
    pub share: u32,
    /// in parts of this.
    pub of: u32,
    /// Counts the requests.
    pub turns: Turns,
}

impl Mirror {
    /// Whether the next request is of its share.
    pub fn takes(&self) -> bool {
        self.turns.next(MIRRORS, u64::from(self.of)) < u64::from(self.share)
    }
}

/// Another host or path for a backend.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The host that the backend sees.
    pub hostname: Option<HeaderValue>,
    /// The path that it sees.
    pub path: Option<PathChange>,
}

impl Rewrite {
    /// Changes a request.
    pub fn apply(&self, parts: &mut Parts, matched: &Matched<'_>) {
        if let Some(host) = &self.hostname {
            parts.headers.insert(HOST, host.clone());
        }
        let Some(change) = &self.path else { return };
        let path = change.of(parts.uri.path(), matched.prefix);
        let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        // A path that is none was refused with the route.
        if let Ok(path) = PathAndQuery::try_from(format!("{path}{query}")) {
            let mut uri = parts.uri.clone().into_parts();
            uri.path_and_query = Some(path);
            if let Ok(uri) = Uri::from_parts(uri) {
                parts.uri = uri;
            }
        }
    }
}
