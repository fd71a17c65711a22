//! What a request asks for, read from its method and path: the grammar of Kubernetes' URLs.
//!
//! Pure. It does not know which kinds exist; authorisation comes between this and the look-up of the kind, so that
//! someone without rights cannot find out what is served.

use coracle_api::selector::FieldSelector;
use http::Method;
use percent_encoding::percent_decode_str;

use crate::query::Query;

/// A request's meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// `get`, `list`, `create` and so on; the lower-case method for paths that are no resource.
    pub(crate) verb: &'static str,
    /// The path as it came.
    pub(crate) path: String,
    /// What it names, when it is a resource.
    pub(crate) resource: Option<ResourcePath>,
    /// What a field selector narrows it to.
    pub(crate) selected: Selected,
}

/// The objects that a field selector leaves of a collection, as far as rights may depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Selected {
    /// The one object of this name.
    pub(crate) name: Option<String>,
    /// The pods of this node.
    pub(crate) node: Option<String>,
}

impl Selected {
    fn parse(query: &Query) -> Self {
        // A selector that cannot be read narrows nothing; the request fails on it later.
        let selector = query
            .get("fieldSelector")
            .and_then(|text| FieldSelector::parse(text).ok());
        let fixed = |field: &str| selector.as_ref()?.requires(field).map(str::to_owned);
        Self {
            name: fixed("metadata.name"),
            node: fixed("spec.nodeName"),
        }
    }
}

/// A resource's address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ResourcePath {
    /// Empty for the core group.
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    /// The plural.
    pub(crate) resource: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl RequestInfo {
    /// Reads a request line.
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let Some((resource, watch_prefix)) = resource_path(path) else {
            return Self {
                verb: method_verb(method),
                path: path.to_owned(),
                resource: None,
                selected: Selected::default(),
            };
        };
        let verb = resource_verb(method, &resource, watch_prefix || query.flag("watch").unwrap_or(false));
        Self {
            verb,
            path: path.to_owned(),
            selected: match verb {
                "list" | "watch" | "deletecollection" => Selected::parse(query),
                _ => Selected::default(),
            },
            resource: Some(resource),
        }
    }

    /// Whether the answer may take as long as it likes.
    pub(crate) fn long_running(&self) -> bool {
        self.verb == "watch"
            || self.resource.as_ref().is_some_and(|resource| {
                matches!(
                    resource.subresource.as_deref(),
                    Some("log" | "portforward" | "exec" | "attach" | "proxy")
                )
            })
    }
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "unknown",
    }
}

fn resource_verb(method: &Method, resource: &ResourcePath, watch: bool) -> &'static str {
    let named = resource.name.is_some();
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        Method::GET | Method::HEAD if watch && resource.subresource.is_none() => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD => "list",
        _ => "unknown",
    }
}

/// The address, and whether it came with the old `watch/` prefix. `None` for paths that are no resource.
fn resource_path(path: &str) -> Option<(ResourcePath, bool)> {
    let segments: Vec<String> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    let mut rest = segments.as_slice();
    let mut found = ResourcePath::default();
    match take(&mut rest)? {
        "api" => found.version = take(&mut rest)?.to_owned(),
        "apis" => {
            found.group = take(&mut rest)?.to_owned();
            found.version = take(&mut rest)?.to_owned();
        }
        _ => return None,
    }
    let watch = rest.first().is_some_and(|segment| segment == "watch");
    if watch {
        take(&mut rest)?;
    }
    match rest {
        [] => return None,
        [namespaces, namespace, resource, ..]
            if namespaces == "namespaces" && !matches!(resource.as_str(), "status" | "finalize") =>
        {
            found.namespace = Some(namespace.clone());
            rest = rest.get(2..).unwrap_or_default();
        }
        [namespaces, name, ..] if namespaces == "namespaces" => found.namespace = Some(name.clone()),
        _ => {}
    }
    found.resource = take(&mut rest)?.to_owned();
    found.name = take(&mut rest).map(str::to_owned);
    found.subresource = take(&mut rest).map(str::to_owned);
    Some((found, watch))
}

fn take<'a>(rest: &mut &'a [String]) -> Option<&'a str> {
    let (first, others) = rest.split_first()?;
    *rest = others;
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: Method, path: &str, query: &str) -> RequestInfo {
        RequestInfo::parse(&method, path, &Query::parse(Some(query)))
    }

    #[test]
    fn addresses() {
        let cases = [
            ("/api/v1/pods", ("", None, "pods", None, None)),
            (
                "/api/v1/namespaces/a/pods/b/log",
                ("", Some("a"), "pods", Some("b"), Some("log")),
            ),
            ("/api/v1/namespaces/a", ("", Some("a"), "namespaces", Some("a"), None)),
            (
                "/api/v1/namespaces/a/finalize",
                ("", Some("a"), "namespaces", Some("a"), Some("finalize")),
            ),
            ("/api/v1/namespaces", ("", None, "namespaces", None, None)),
            (
                "/apis/apps/v1/namespaces/a/deployments/x%20y/",
                ("apps", Some("a"), "deployments", Some("x y"), None),
            ),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles",
                ("rbac.authorization.k8s.io", None, "clusterroles", None, None),
            ),
        ];
        for (path, (group, namespace, resource, name, subresource)) in cases {
            let found = info(Method::GET, path, "").resource.unwrap();
            assert_eq!(found.group, group, "{path}");
            assert_eq!(found.namespace.as_deref(), namespace, "{path}");
            assert_eq!(found.resource, resource, "{path}");
            assert_eq!(found.name.as_deref(), name, "{path}");
            assert_eq!(found.subresource.as_deref(), subresource, "{path}");
        }
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1/",
            "/version",
            "/healthz/etcd",
        ] {
            assert_eq!(info(Method::GET, path, "").resource, None, "{path}");
        }
    }

    #[test]
    fn verbs() {
        let verb = |method, path, query| info(method, path, query).verb;
        assert_eq!(verb(Method::GET, "/api/v1/pods", ""), "list");
        assert_eq!(verb(Method::GET, "/api/v1/pods", "watch=1"), "watch");
        assert_eq!(verb(Method::GET, "/api/v1/watch/pods", ""), "watch");
        assert_eq!(verb(Method::GET, "/api/v1/namespaces/a/pods/b", ""), "get");
        assert_eq!(verb(Method::POST, "/api/v1/namespaces/a/pods", ""), "create");
        assert_eq!(
            verb(Method::DELETE, "/api/v1/namespaces/a/pods", ""),
            "deletecollection"
        );
        assert_eq!(verb(Method::DELETE, "/api/v1/namespaces/a/pods/b", ""), "delete");
        assert_eq!(verb(Method::POST, "/version", ""), "post");
    }
}
