//! Where a request goes by its listener, host and content. Pure.
//!
//! Within one listener the most exact host comes first, then as the specification of HTTPRoute orders matches: an exact
//! path, a longer prefix, a method, more headers, more query parameters; then the older route, and the order within it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use rustls::sign::CertifiedKey;

use super::filters::{Filters, Matched, Step};
use super::hostname::Hostname;
use super::turns::{BACKENDS, Turns};
use crate::ingress::{Came, Target};

/// All listeners by their port.
#[derive(Debug, Default)]
pub struct Table {
    ports: HashMap<u16, Vec<Listener>>,
}

/// One listener with what its routes say.
#[derive(Debug)]
pub struct Listener {
    /// The hosts that it takes.
    pub hostname: Hostname,
    /// What it shows over TLS.
    pub certificate: Option<Arc<CertifiedKey>>,
    /// The rules in any order; [`Table::new`] sorts them.
    pub entries: Vec<Entry>,
}

/// One match of a rule, for one host.
#[derive(Debug)]
pub struct Entry {
    /// The hosts for which it holds.
    pub hostname: Hostname,
    /// What a request must be.
    pub condition: Condition,
    /// What is done with it.
    pub rule: Arc<Rule>,
}

/// What a request must be; what is empty is not asked.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// Its path.
    pub path: Path,
    /// Its method.
    pub method: Option<Method>,
    /// Headers, all of which it must have.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Query parameters, all of which it must have.
    pub query: Vec<(String, String)>,
}

/// A condition on the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// This path.
    Exact(String),
    /// This path and those below it; without a slash at its end, so that the root is the empty text.
    Prefix(Arc<str>),
}

impl Default for Path {
    fn default() -> Self {
        Self::Prefix("".into())
    }
}

/// What is done with a request.
#[derive(Debug, Default)]
pub struct Rule {
    /// What is changed, or said at once.
    pub filters: Filters,
    /// Who may get it.
    pub backends: Vec<Backend>,
    /// How long the answer may take.
    pub timeout: Option<Duration>,
    /// Counts the requests, for the shares of the backends.
    pub turns: Turns,
}

/// A backend with its share of the requests.
#[derive(Debug)]
pub struct Backend {
    /// Its share, in parts of the sum of all.
    pub weight: u32,
    /// The service; none where the reference cannot be followed.
    pub target: Option<Arc<Target>>,
    /// What is changed for this backend alone.
    pub filters: Arc<Filters>,
}

/// The rule for a request.
#[derive(Debug, Clone)]
pub struct Found {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The prefix that its path has matched.
    prefix: Option<Arc<str>>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Decision {
    /// It goes to this service; the filters are those of the backend. The mirrors whose turn it is get copies.
    Forward(Arc<Target>, Arc<Filters>, Vec<Copied>),
    /// The client is sent elsewhere.
    Redirect(StatusCode, HeaderValue),
    /// Its backend cannot be used, or there is none.
    Broken,
}

/// The head of a request for a mirror.
#[derive(Debug)]
pub struct Copied {
    /// The service that gets it.
    pub target: Arc<Target>,
    /// As the request was when it came to the mirror.
    pub head: Parts,
}

impl Table {
    /// The table of these listeners, given by their ports. Of two with the same port and host the first is heard.
    pub fn new(listeners: impl IntoIterator<Item = (u16, Listener)>) -> Self {
        let mut ports: HashMap<u16, Vec<Listener>> = HashMap::new();
        for (port, mut listener) in listeners {
            listener.entries.sort_by_key(Entry::order);
            ports.entry(port).or_default().push(listener);
        }
        for listeners in ports.values_mut() {
            listeners.sort_by_key(|listener| Reverse(listener.hostname.precision()));
        }
        Self { ports }
    }

    /// The rule for a request at a port; `host` is as the client sent it.
    pub fn find<B>(&self, port: u16, host: &str, request: &Request<B>) -> Option<Found> {
        let listeners = self.ports.get(&port)?;
        let host = crate::ingress::bare(host).to_ascii_lowercase();
        let listener = listeners.iter().find(|listener| listener.hostname.matches(&host))?;
        let fits = |entry: &&Entry| {
            entry.hostname.matches(&host)
                && entry
                    .condition
                    .holds(request.method(), request.uri(), request.headers())
        };
        let entry = listener.entries.iter().find(fits)?;
        Some(Found {
            rule: entry.rule.clone(),
            prefix: match &entry.condition.path {
                Path::Prefix(prefix) => Some(prefix.clone()),
                Path::Exact(_) => None,
            },
        })
    }

    /// The certificate of the listener at a port that takes a name; without a name, of one that takes any.
    pub fn certificate(&self, port: u16, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let mut listeners = self.ports.get(&port)?.iter();
        listeners
            .find(|listener| listener.hostname.matches(&name))?
            .certificate
            .clone()
    }
}

impl Entry {
    /// What comes first is the least.
    fn order(&self) -> impl Ord + use<> {
        let condition = &self.condition;
        let (exact, length) = match &condition.path {
            Path::Exact(path) => (true, path.len()),
            Path::Prefix(prefix) => (false, prefix.len()),
        };
        let asked = (
            condition.method.is_some(),
            condition.headers.len(),
            condition.query.len(),
        );
        Reverse((self.hostname.precision(), exact, length, asked))
    }
}

impl Condition {
    fn holds(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
        let path = uri.path();
        let of_path = match &self.path {
            Path::Exact(exact) => exact == path,
            // A prefix ends where an element of the path ends.
            Path::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        };
        let header = |(name, value): &(HeaderName, HeaderValue)| headers.get(name) == Some(value);
        of_path
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.headers.iter().all(header)
            && (self.query.is_empty() || has_query(uri.query().unwrap_or_default(), &self.query))
    }
}

/// Whether a query has all of these; of a parameter that is there several times the first counts.
fn has_query(query: &str, wanted: &[(String, String)]) -> bool {
    let value = |wanted: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(name, _)| name == wanted).map(|(_, value)| value)
    };
    wanted
        .iter()
        .all(|(name, wanted)| value(name).is_some_and(|value| value == *wanted))
}

impl Rule {
    /// The backend whose turn it is.
    fn pick(&self) -> Option<&Backend> {
        let all: u64 = self.backends.iter().map(|backend| u64::from(backend.weight)).sum();
        let mut at = self.turns.next(BACKENDS, all);
        self.backends.iter().find(|backend| {
            let weight = u64::from(backend.weight);
            let here = at < weight;
            at = at.saturating_sub(weight);
            here
        })
    }
}

impl Found {
    /// Decides about a request, and makes it what the backend gets.
    pub fn decide(&self, parts: &mut Parts, host: &HeaderValue, came: Came) -> Decision {
        let matched = Matched {
            prefix: self.prefix.as_deref(),
            host: host.to_str().unwrap_or_default(),
            came,
        };
        let filters = &self.rule.filters;
        if let Some(redirect) = &filters.redirect {
            return match redirect.location(&parts.uri, &matched) {
                Some(location) => Decision::Redirect(redirect.status, location),
                None => Decision::Broken,
            };
        }
        let Some(backend) = self.rule.pick() else {
            return Decision::Broken;
        };
        let Some(target) = &backend.target else {
            return Decision::Broken;
        };
        let mut copies = Vec::new();
        for step in filters.request.iter().chain(&backend.filters.request) {
            match step {
                Step::Headers(changes) => changes.apply(&mut parts.headers),
                Step::Rewrite(rewrite) => rewrite.apply(parts, &matched),
                Step::Mirror(mirror) if mirror.takes() => copies.push(Copied {
                    target: mirror.target.clone(),
                    head: crate::ingress::head(parts),
                }),
                Step::Mirror(_) => {}
            }
        }
        Decision::Forward(target.clone(), backend.filters.clone(), copies)
    }
}

#[cfg(test)]
pub mod tests;
