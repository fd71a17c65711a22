//! Which kinds the server offers, so that deletion reaches those too that this crate has never heard of.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;

use crate::resource::Resource;

/// What a kind must offer to be covered by the graph of owners.
const NEEDED_VERBS: [&str; 3] = ["list", "watch", "delete"];

/// The kinds whose objects can be followed and deleted, each in its group's preferred version. Events are left out:
/// they own nothing, nobody owns them, and there are many.
///
/// # Errors
/// When the server is not reached.
pub async fn deletable(client: &Client) -> kube::Result<Vec<Resource>> {
    let mut found = read("", "v1", &client.list_core_api_resources("v1").await?);
    for group in client.list_api_groups().await?.groups {
        let Some(version) = group.preferred_version.or_else(|| group.versions.into_iter().next()) else {
            continue;
        };
        match client.list_api_group_resources(&version.group_version).await {
            Ok(list) => found.extend(read(&group.name, &version.version, &list)),
            // Another server serves the group and is away: its objects are out of reach, the others' are not.
            Err(kube::Error::Api(status)) if status.code == 503 => {
                tracing::debug!(group = %version.group_version, "a group does not answer");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn read(group: &str, version: &str, list: &APIResourceList) -> Vec<Resource> {
    let usable = list.resources.iter().filter(|r| {
        let offers = |verb: &&str| r.verbs.iter().any(|v| v == verb);
        !r.name.contains('/') && r.kind != "Event" && NEEDED_VERBS.iter().all(offers)
    });
    usable
        .map(|r| Resource {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            kind: r.kind.clone().into(),
            plural: r.name.clone().into(),
            namespaced: r.namespaced,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subresources_events_and_unwatchable_kinds_are_left_out() {
        let all = json!(["create", "delete", "get", "list", "watch"]);
        let list = json!({"groupVersion": "v1", "resources": [
            {"name": "pods", "kind": "Pod", "namespaced": true, "singularName": "pod", "verbs": all},
            {"name": "pods/log", "kind": "Pod", "namespaced": true, "singularName": "", "verbs": ["get"]},
            {"name": "events", "kind": "Event", "namespaced": true, "singularName": "event", "verbs": all},
            {"name": "bindings", "kind": "Binding", "namespaced": true, "singularName": "binding", "verbs": ["create"]},
        ]});
        let found = read("", "v1", &serde_json::from_value(list).unwrap());
        assert_eq!(found, [crate::resource::PODS]);
    }
}
