//! Discovery: which groups, versions and kinds are served, in the old form (a request per version) and in the aggregated
//! one. Everything is derived from the kinds; documents are made once and then only sent.

use std::collections::HashMap;

use bytes::Bytes;
use coracle_api::kinds::{Kind, Kinds};
use http::HeaderMap;
use http::header::HeaderValue;
use serde_json::{Value, json};

use crate::aggregate::local::{version_first, versions};
use crate::aggregate::remote::{self, Remote};
use crate::negotiate::aggregated_discovery;
use crate::respond::{self, Answer};

/// What is served besides the documents of discovery.
const PAGES: [&str; 7] = [
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/readyz",
    "/version",
];

/// A document ready to be sent.
struct Document {
    content_type: HeaderValue,
    bytes: Bytes,
    etag: String,
}

/// All discovery documents, by path without outer slashes; aggregated ones by path and version.
pub(crate) struct Discovery {
    plain: HashMap<String, Document>,
    aggregated: HashMap<(&'static str, &'static str), Document>,
}

/// The versions of a group with their kinds, in the order in which they were first met.
type Rows<'a> = Vec<(&'a str, Vec<(&'a str, Vec<&'a Kind>)>)>;

/// A group as it is shown: of this server's kinds, of another's, or of both.
struct Group<'a> {
    name: &'a str,
    priority: i64,
    versions: Vec<Version<'a>>,
}

/// One version of a group, in the order of preference.
struct Version<'a> {
    name: &'a str,
    priority: i64,
    content: Content<'a>,
}

enum Content<'a> {
    Own(Vec<&'a Kind>),
    Remote(&'a Remote),
}

impl Discovery {
    pub(crate) fn new(kinds: &Kinds, remotes: &[Remote]) -> Self {
        let groups = shown(kinds, remotes);
        let mut plain = HashMap::new();
        plain.insert("api".to_owned(), document(&api_versions()));
        plain.insert("apis".to_owned(), document(&group_list(&groups)));
        for group in &groups {
            let name = group.name;
            if !name.is_empty() {
                plain.insert(format!("apis/{name}"), document(&api_group(group, true)));
            }
            for version in &group.versions {
                // The list of another server's kinds comes from that server.
                if let Content::Own(kinds) = &version.content {
                    let path = path(name, version.name);
                    plain.insert(
                        path,
                        document(&resource_list(&group_version(name, version.name), kinds)),
                    );
                }
            }
        }
        let mut aggregated = HashMap::new();
        for version in ["v2", "v2beta1"] {
            for (path, core) in [("api", true), ("apis", false)] {
                let listed = groups.iter().filter(|group| group.name.is_empty() == core);
                aggregated.insert((path, version), aggregated_document(version, listed));
            }
        }
        Self { plain, aggregated }
    }

    /// The paths that a client may begin with, sorted: what the root answers.
    pub(crate) fn paths(&self) -> Vec<String> {
        let documents = self.plain.keys().map(|path| format!("/{path}"));
        let mut paths: Vec<String> = documents.chain(PAGES.iter().map(|&page| page.to_owned())).collect();
        paths.sort_unstable();
        paths
    }

    /// Answers a discovery path; `None` when it is none.
    pub(crate) fn answer(&self, path: &str, headers: &HeaderMap) -> Option<Answer> {
        let aggregated = aggregated_discovery(headers).and_then(|version| match path {
            "api" => self.aggregated.get(&("api", version)),
            "apis" => self.aggregated.get(&("apis", version)),
            _ => None,
        });
        let document = aggregated.or_else(|| self.plain.get(path))?;
        Some(respond::cached(
            headers,
            document.content_type.clone(),
            &document.bytes,
            &document.etag,
        ))
    }
}

/// What `/version` says.
pub(crate) fn version(version: &crate::Version) -> Value {
    json!({
        "major": version.major, "minor": version.minor, "gitVersion": version.git_version,
        "gitCommit": version.git_commit, "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        "emulationMajor": version.major, "emulationMinor": version.minor,
        "minCompatibilityMajor": version.major, "minCompatibilityMinor": version.minor,
    })
}

/// The path of a version's document.
pub(crate) fn path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// The kinds by group and version.
pub(crate) fn groups(kinds: &Kinds) -> Rows<'_> {
    let mut groups: Rows<'_> = Vec::new();
    for kind in kinds.iter() {
        let versions = find_or_add(&mut groups, &kind.group);
        find_or_add(versions, &kind.version).push(kind);
    }
    groups
}

/// All groups, in the order of their priorities.
fn shown<'a>(kinds: &'a Kinds, remotes: &'a [Remote]) -> Vec<Group<'a>> {
    let places = versions(kinds);
    let mut all: Vec<Group<'a>> = Vec::new();
    let mut add =
        |group: &'a str, priority: i64, version: Version<'a>| match all.iter_mut().find(|known| known.name == group) {
            None => all.push(Group {
                name: group,
                priority,
                versions: vec![version],
            }),
            Some(known) => {
                known.priority = known.priority.max(priority);
                known.versions.retain(|other| other.name != version.name);
                known.versions.push(version);
            }
        };
    for (group, own) in groups(kinds) {
        for (version, kinds) in own {
            let place = places
                .iter()
                .find(|(one, other, _, _)| (*one, *other) == (group, version));
            let (of_group, of_version) = place.map_or((0, 0), |(_, _, place, _)| (place.group, place.version));
            let content = Content::Own(kinds);
            let (name, priority) = (version, of_version);
            add(
                group,
                of_group,
                Version {
                    name,
                    priority,
                    content,
                },
            );
        }
    }
    for remote in remotes {
        let backend = &remote.backend;
        let version = Version {
            name: &backend.version,
            priority: backend.version_priority,
            content: Content::Remote(remote),
        };
        add(&backend.group, backend.group_priority, version);
    }
    for group in &mut all {
        let order = |one: &Version<'_>, other: &Version<'_>| {
            version_first((one.name, one.priority), (other.name, other.priority))
        };
        group.versions.sort_by(order);
    }
    // Built-in groups have places of their own; the others come after, by name where their priority is the same.
    all.sort_by(|one, other| other.priority.cmp(&one.priority).then_with(|| one.name.cmp(other.name)));
    all
}

fn find_or_add<'m, 'a, T: Default>(list: &'m mut Vec<(&'a str, T)>, name: &'a str) -> &'m mut T {
    let index = list.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
        list.push((name, T::default()));
        list.len() - 1
    });
    // The index was found or made a line above.
    #[allow(clippy::indexing_slicing)]
    &mut list[index].1
}

fn typed(content_type: HeaderValue, value: &Value) -> Document {
    let bytes = crate::document::bytes(value);
    let etag = respond::etag(&bytes);
    Document {
        content_type,
        bytes,
        etag,
    }
}

fn document(value: &Value) -> Document {
    typed(HeaderValue::from_static("application/json"), value)
}

fn api_versions() -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
    })
}

fn group_list(groups: &[Group<'_>]) -> Value {
    let groups: Vec<Value> = groups
        .iter()
        .filter(|group| !group.name.is_empty())
        .map(|group| api_group(group, false))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn api_group(group: &Group<'_>, alone: bool) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| json!({"groupVersion": group_version(group.name, version.name), "version": version.name}))
        .collect();
    let preferred = versions.first().cloned();
    let mut value = json!({"name": group.name, "versions": versions, "preferredVersion": preferred});
    if alone && let Some(fields) = value.as_object_mut() {
        fields.shift_insert(0, "kind".to_owned(), "APIGroup".into());
        fields.shift_insert(1, "apiVersion".to_owned(), "v1".into());
    }
    value
}

fn resource_list(group_version: &str, kinds: &[&Kind]) -> Value {
    let resources: Vec<Value> = kinds.iter().flat_map(|kind| resources(kind)).collect();
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
}

fn resources(kind: &Kind) -> Vec<Value> {
    let mut main = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
        "verbs": kind.verbs,
    });
    if let Some(fields) = main.as_object_mut() {
        for (name, list) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
            if !list.is_empty() {
                fields.insert(name.to_owned(), json!(list));
            }
        }
    }
    let parts = kind.subresources.iter().map(|sub| {
        let mut part = json!({
            "name": format!("{}/{}", kind.plural, sub.name), "singularName": "", "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": sub.verbs,
        });
        if let (Some(body), Some(fields)) = (&sub.body, part.as_object_mut()) {
            fields.insert("kind".to_owned(), json!(body.kind));
            if (&body.group, &body.version) != (&kind.group, &kind.version) {
                fields.insert("group".to_owned(), json!(body.group));
                fields.insert("version".to_owned(), json!(body.version));
            }
        }
        part
    });
    std::iter::once(main).chain(parts).collect()
}

fn aggregated_document<'a>(version: &'static str, groups: impl Iterator<Item = &'a Group<'a>>) -> Document {
    let items: Vec<Value> = groups
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|version| aggregated_version(group.name, version))
                .collect();
            json!({"metadata": {"name": group.name, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    let value = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items,
    });
    let content_type = match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    typed(HeaderValue::from_static(content_type), &value)
}

fn aggregated_version(group: &str, version: &Version<'_>) -> Value {
    let (resources, fresh) = match &version.content {
        Content::Own(kinds) => (kinds.iter().map(|kind| aggregated_resource(kind)).collect(), true),
        Content::Remote(other) => {
            let rows = remote::aggregated(group, version.name, &other.documents.resources);
            (rows, other.backend.available)
        }
    };
    let freshness = if fresh { "Current" } else { "Stale" };
    json!({"version": version.name, "resources": resources, "freshness": freshness})
}

fn aggregated_resource(kind: &Kind) -> Value {
    let gvk = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let own = gvk(&kind.group, &kind.version, &kind.kind);
    let mut resource = json!({
        "resource": kind.plural, "responseKind": own,
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular, "verbs": kind.verbs,
    });
    let parts: Vec<Value> = kind
        .subresources
        .iter()
        .map(|sub| {
            let response = match &sub.body {
                Some(body) => gvk(&body.group, &body.version, &body.kind),
                None => own.clone(),
            };
            json!({"subresource": sub.name, "responseKind": response, "verbs": sub.verbs})
        })
        .collect();
    if let Some(fields) = resource.as_object_mut() {
        for (name, list) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
            if !list.is_empty() {
                fields.insert(name.to_owned(), json!(list));
            }
        }
        if !parts.is_empty() {
            fields.insert("subresources".to_owned(), json!(parts));
        }
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::kinds;

    fn value(document: &Document) -> Value {
        serde_json::from_slice(&document.bytes).unwrap()
    }

    #[test]
    fn both_forms_name_every_kind() {
        let discovery = Discovery::new(kinds(), &[]);
        for kind in kinds().iter() {
            let list = value(&discovery.plain[&path(&kind.group, &kind.version)]);
            let listed = list["resources"]
                .as_array()
                .unwrap()
                .iter()
                .any(|row| row["name"] == kind.plural.as_ref());
            assert!(listed, "{}", kind.plural);
            let root = if kind.group.is_empty() { "api" } else { "apis" };
            let text = String::from_utf8_lossy(&discovery.aggregated[&(root, "v2")].bytes).into_owned();
            assert!(
                text.contains(&format!("\"resource\":\"{}\"", kind.plural)),
                "{}",
                kind.plural
            );
        }
    }

    #[test]
    fn a_group_prefers_its_first_version() {
        let discovery = Discovery::new(kinds(), &[]);
        let apps = value(&discovery.plain["apis/apps"]);
        assert_eq!(
            apps["preferredVersion"],
            json!({"groupVersion": "apps/v1", "version": "v1"})
        );
        assert_eq!(apps["kind"], "APIGroup");
        let scale = value(&discovery.plain["apis/apps/v1"])["resources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == "deployments/scale")
            .cloned()
            .unwrap();
        assert_eq!(
            (&scale["group"], &scale["kind"]),
            (&json!("autoscaling"), &json!("Scale"))
        );
    }
}
