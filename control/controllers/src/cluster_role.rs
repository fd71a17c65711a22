//! ClusterRoles that gather the rules of others, as `admin` and `edit` do where extensions add their own.
//!
//! Wants to be true: a role with an aggregation rule has the rules of all roles that its selectors pick, and no others.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::core::Selector;
use serde_json::json;

use crate::{
    driver::{Controller, Turn},
    key::Key,
    merge, owner,
    plan::{Action, Plan, Target},
    resource::CLUSTER_ROLES,
    store::Change,
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "clusterrole-aggregation-controller",
    resource: CLUSTER_ROLES,
    watches: &[Watch::ClusterRole(of_role)],
    reconcile,
};

fn of_role(change: &Change<ClusterRole>, world: &World, keys: &mut Vec<Key>) {
    keys.extend(
        change
            .new
            .iter()
            .filter(|role| role.aggregation_rule.is_some())
            .map(|role| Key::of(&role.metadata)),
    );
    if change.both().all(|role| role.metadata.labels.is_none()) {
        return;
    }
    for role in world.cluster_roles.all() {
        let selectors = selectors(&role);
        if change
            .both()
            .any(|changed| selectors.iter().any(|s| owner::selects(s, &changed.metadata)))
        {
            keys.push(Key::of(&role.metadata));
        }
    }
}

/// Whose rules the role gathers. A selector that picks everything would gather all rights of the cluster: that is
/// nobody's intent, and it picks nothing.
fn selectors(role: &ClusterRole) -> Vec<Selector> {
    let rule = role.aggregation_rule.iter();
    let selectors = rule.flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
    selectors
        .filter_map(owner::selector)
        .filter(|selector| !selector.selects_all())
        .collect()
}

/// Decides what to do about one role.
pub fn reconcile(key: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let role = world
        .cluster_roles
        .get(key)
        .filter(|role| role.aggregation_rule.is_some());
    let Some(role) = role.filter(|role| role.metadata.deletion_timestamp.is_none()) else {
        return plan;
    };
    let mut others = world.cluster_roles.all();
    others.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors(&role) {
        let picked = others
            .iter()
            .filter(|other| other.metadata.uid != role.metadata.uid && owner::selects(&selector, &other.metadata));
        for rule in picked.flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    if role.rules.as_deref().unwrap_or_default() != rules {
        let patch = json!({"metadata": {"uid": role.metadata.uid, "resourceVersion": role.metadata.resource_version},
            "rules": merge::value(&rules)});
        plan.change(Action::merge(Target::of(&CLUSTER_ROLES, &role.metadata), patch));
    }
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        plan::Verb,
        scene::{Scene, now},
    };

    fn role(name: &str, label: &str, resource: &str, gathers: Option<&str>) -> Value {
        let mut role = json!({"kind": "ClusterRole", "metadata": {"name": name, "uid": name, "labels": {"to": label}},
            "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]});
        if let Some(label) = gathers {
            role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"to": label}}]});
        }
        role
    }

    #[test]
    fn the_rules_of_all_that_are_picked_replace_its_own() {
        let scene = Scene::default()
            .with(role("all", "none", "stale", Some("edit")))
            .with(role("b", "edit", "pods", None))
            .with(role("a", "edit", "services", None))
            .with(role("c", "view", "secrets", None));
        let plan = |name: &str| reconcile(&Key::cluster(name), scene.world(), &Turn::at(now()));
        let found = plan("all");
        let Verb::Merge { patch, .. } = &found.actions().next().unwrap().verb else {
            panic!("{found:?}")
        };
        let resources: Vec<&Value> = patch["rules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| &r["resources"][0])
            .collect();
        assert_eq!(resources, ["services", "pods"]);
        assert!(plan("b").is_settled());
        let mut keys = Vec::new();
        let changed = Change {
            old: None,
            new: scene.world().cluster_roles.get(&Key::cluster("a")),
        };
        of_role(&changed, scene.world(), &mut keys);
        assert_eq!(keys, [Key::cluster("all")]);
    }
}
