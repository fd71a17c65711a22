//! What a request to the node's API is about: its path and its query. Pure.

use std::borrow::Cow;
use std::str::FromStr;

/// A pod as a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Empty where the pod that has the name now is meant.
    pub(super) uid: String,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Health,
    Pods,
    /// One of the paths that tell what is used.
    Told(String),
    Logs {
        pod: Pod,
        container: String,
    },
    Exec {
        pod: Pod,
        container: String,
    },
    Attach {
        pod: Pod,
        container: String,
    },
    PortForward {
        pod: Pod,
    },
}

impl Route {
    /// The subresource of `nodes` and the verb that the API server is asked about, as a kubelet asks.
    pub(super) fn right(&self) -> (&'static str, &'static str) {
        match self {
            Route::Health => ("healthz", "get"),
            Route::Pods => ("pods", "get"),
            Route::Told(path) if path.starts_with("/stats") => ("stats", "get"),
            Route::Told(_) => ("metrics", "get"),
            Route::Logs { .. } => ("proxy", "get"),
            Route::Exec { .. } | Route::Attach { .. } | Route::PortForward { .. } => ("proxy", "create"),
        }
    }
}

/// Reads a path; none where nothing is there.
pub(super) fn route(path: &str) -> Option<Route> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let pod = |namespace: &str, name: &str, uid: &str| Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    };
    Some(match parts.as_slice() {
        ["healthz"] => Route::Health,
        ["pods"] => Route::Pods,
        ["stats", "summary"] | ["metrics", "resource" | "cadvisor"] => Route::Told(path.to_owned()),
        ["containerLogs", namespace, name, container] => Route::Logs {
            pod: pod(namespace, name, ""),
            container: (*container).to_owned(),
        },
        ["portForward", namespace, name] => Route::PortForward {
            pod: pod(namespace, name, ""),
        },
        ["portForward", namespace, name, uid] => Route::PortForward {
            pod: pod(namespace, name, uid),
        },
        [verb @ ("exec" | "attach"), namespace, name, rest @ ..] => {
            let (uid, container) = match rest {
                [container] => ("", container),
                [uid, container] => (*uid, container),
                _ => return None,
            };
            let (pod, container) = (pod(namespace, name, uid), (*container).to_owned());
            match *verb {
                "exec" => Route::Exec { pod, container },
                _ => Route::Attach { pod, container },
            }
        }
        _ => return None,
    })
}

/// The parameters of a request.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: Option<&str>) -> Self {
        let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Self(pairs.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs.find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        let named = self.0.iter().filter(|(own, _)| own == name);
        named.map(|(_, value)| value.clone()).collect()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value, "1" | "true"))
    }

    /// A number; an error with the text where it is none.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, &str> {
        match self.get(name) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| text),
        }
    }
}

/// A text of a query as it was before it was written into one.
fn decoded(text: &str) -> String {
    let spaced: Cow<'_, str> = match text.contains('+') {
        true => Cow::Owned(text.replace('+', " ")),
        false => Cow::Borrowed(text),
    };
    percent_encoding::percent_decode_str(&spaced)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_kubelet() {
        let pod = |uid: &str| Pod {
            namespace: "n".into(),
            name: "p".into(),
            uid: uid.into(),
        };
        let container = || "c".to_owned();
        for (path, wanted) in [
            ("/healthz", Some(Route::Health)),
            ("/pods/", Some(Route::Pods)),
            ("/stats/summary", Some(Route::Told("/stats/summary".into()))),
            (
                "/containerLogs/n/p/c",
                Some(Route::Logs {
                    pod: pod(""),
                    container: container(),
                }),
            ),
            (
                "/exec/n/p/c",
                Some(Route::Exec {
                    pod: pod(""),
                    container: container(),
                }),
            ),
            (
                "/exec/n/p/u/c",
                Some(Route::Exec {
                    pod: pod("u"),
                    container: container(),
                }),
            ),
            (
                "/attach/n/p/u/c",
                Some(Route::Attach {
                    pod: pod("u"),
                    container: container(),
                }),
            ),
            ("/portForward/n/p/u", Some(Route::PortForward { pod: pod("u") })),
            ("/exec/n/p", None),
            ("/run/n/p/c", None),
            ("/", None),
        ] {
            assert_eq!(route(path), wanted, "{path}");
        }
    }

    #[test]
    fn queries_are_read_as_they_were_meant() {
        let query = Query::parse(Some("command=echo&command=a+b%26c&input=1&tailLines=x&port"));
        assert_eq!(query.all("command"), ["echo", "a b&c"]);
        assert!(query.flag("input") && !query.flag("output"));
        assert_eq!(query.number::<u64>("tailLines"), Err("x"));
        assert_eq!(query.number::<u64>("limitBytes"), Ok(None));
        assert_eq!(query.get("port"), Some(""));
    }
}
