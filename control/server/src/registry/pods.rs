//! What can be done to pods only: binding them to a node.

use coracle_api::status::ApiError;
use coracle_api::{object, time};
use serde_json::{Value, json};

use super::Scope;
use crate::decode::{Document, Expected, normalise_lenient};
use crate::webhook::Operation;

const BINDING: Expected<'static> = Expected {
    api_version: "v1",
    version: "v1",
    kind: "Binding",
    go_type: "k8s.io/api/core/v1.Binding",
    custom: None,
};

impl Scope<'_> {
    /// Gives a pod its node, once.
    pub(crate) async fn bind(&self, name: &str, document: Document, dry_run: bool) -> Result<Value, ApiError> {
        let (mut binding, _) = normalise_lenient(document, BINDING)?;
        let asked = self.asked(Operation::Create, "binding", name, None, dry_run);
        self.users_change_part(&asked, &mut binding, BINDING).await?;
        let node = object::text(&binding, "target.name").to_owned();
        let kind = object::text(&binding, "target.kind");
        if node.is_empty() || !matches!(kind, "" | "Node") {
            return Err(ApiError::bad_request("target.name: Required value: a node to bind to"));
        }
        let now = time::format_seconds(self.core.now_micros());
        self.users_refuse(&asked, Some(&binding)).await?;
        self.amend(name, dry_run, |pod| self.assign(name, pod, &binding, &node, &now))
            .await?;
        Ok(success())
    }

    fn assign(&self, name: &str, pod: &mut Value, binding: &Value, node: &str, now: &str) -> Result<(), ApiError> {
        let conflict = |message: String| {
            let mut resource = self.kind.group_resource();
            resource.resource = "pods/binding".into();
            ApiError::conflict(&resource, name, &message)
        };
        let uid = object::uid(binding);
        if !uid.is_empty() && uid != object::uid(pod) {
            let known = object::uid(pod);
            return Err(conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {known}"
            )));
        }
        if object::deletion_timestamp(pod).is_some() {
            return Err(conflict(format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            )));
        }
        let taken = object::text(pod, "spec.nodeName");
        if !taken.is_empty() {
            return Err(conflict(format!("pod {name} is already assigned to node {taken:?}")));
        }
        object::set(pod, "spec.nodeName", json!(node));
        for (key, value) in object::annotations(binding) {
            object::set_annotation(pod, key, value);
        }
        let mut conditions = object::list(pod, "status.conditions").to_vec();
        conditions.retain(|condition| object::text(condition, "type") != "PodScheduled");
        conditions
            .push(json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now}));
        object::set(pod, "status.conditions", Value::Array(conditions));
        Ok(())
    }
}

/// A Status that says that all is well.
pub(crate) fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}
