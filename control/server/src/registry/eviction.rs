//! Evictions: deleting a pod in the way that a disruption budget can refuse.
//!
//! A budget is spent by the write that counts it down, on the version that was read: two evictions never spend the same
//! disruption. It must never be spent on a pod that is then not deleted for another reason than a lost race.

use coracle_api::object;
use coracle_api::selector::LabelSelector;
use coracle_api::status::{ApiError, Cause};
use coracle_api::time;
use serde_json::{Value, json};

use super::Scope;
use super::deletion::DeleteOptions;
use super::pods::success;
use crate::decode::{Document, Expected, normalise_lenient};
use crate::document;
use crate::query::Query;
use crate::webhook::Operation;

const EVICTION: Expected<'static> = Expected {
    api_version: "policy/v1",
    version: "v1",
    kind: "Eviction",
    go_type: "k8s.io/api/policy/v1.Eviction",
    custom: None,
};

/// Pods that a budget remembers as on their way out at a time, so that its status stays small. Kubernetes' own number.
const DISRUPTED_LIMIT: usize = 2000;
/// When a client may ask again.
const RETRY_SECONDS: u32 = 10;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

impl Scope<'_> {
    /// Deletes a pod unless its budget has nothing to spend.
    pub(crate) async fn evict(&self, name: &str, document: Document, query: &Query) -> Result<Value, ApiError> {
        let (mut eviction, _) = normalise_lenient(document, EVICTION)?;
        let options = |eviction: &Value| {
            let options = eviction.get("deleteOptions").cloned().unwrap_or_default();
            DeleteOptions::parse(&options, query)
        };
        let dry_run = options(&eviction)?.dry_run;
        let record = self.record(name).await?;
        let asked = self.asked(Operation::Create, "eviction", name, None, dry_run);
        self.users_change_part(&asked, &mut eviction, EVICTION).await?;
        // Whether anything happens is not theirs to change.
        let options = DeleteOptions {
            dry_run,
            ..options(&eviction)?
        };
        self.users_refuse(&asked, Some(&eviction)).await?;
        let pod = document::tree(&record)?;
        if let Some(budget) = self.budget(&pod)? {
            self.spend(&budget, &pod, options.dry_run).await?;
        }
        if !options.dry_run {
            self.announce(name).await?;
        }
        self.delete(name, &options).await?;
        Ok(success())
    }

    /// The budget that the eviction of the pod costs, if it does.
    fn budget(&self, pod: &Value) -> Result<Option<Value>, ApiError> {
        let phase = object::text(pod, "status.phase");
        if matches!(phase, "Succeeded" | "Failed" | "Pending") || object::deletion_timestamp(pod).is_some() {
            return Ok(None);
        }
        let Some(kind) = document::kinds().find("policy", "v1", "poddisruptionbudgets") else {
            return Ok(None);
        };
        let mut found = Vec::new();
        let snapshot = self.core.store.snapshot();
        for record in snapshot.range(&document::prefix_in(kind, self.namespace), None) {
            let budget = document::tree(record)?;
            let Some(selector) = budget.pointer("/spec/selector").filter(|s| s.is_object()) else {
                continue;
            };
            if LabelSelector::from_object(selector)?.matches_object(pod) {
                found.push(budget);
            }
        }
        if found.len() > 1 {
            let message =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(ApiError::internal(message));
        }
        Ok(found.pop().filter(|budget| !is_free(budget, pod)))
    }

    async fn spend(&self, budget: &Value, pod: &Value, dry_run: bool) -> Result<(), ApiError> {
        let Some(kind) = document::kinds().find("policy", "v1", "poddisruptionbudgets") else {
            return Ok(());
        };
        let scope = Scope { kind, ..*self };
        let now = time::format_seconds(self.core.now_micros());
        let count_down = |budget: &mut Value| {
            may_spend(&scope, budget)?;
            let left = number(budget, "disruptionsAllowed") - 1;
            object::set(budget, "status.disruptionsAllowed", json!(left));
            let mut evicted = object::map(budget, "status.disruptedPods").cloned().unwrap_or_default();
            evicted.insert(object::name(pod).to_owned(), json!(now));
            object::set(budget, "status.disruptedPods", Value::Object(evicted));
            Ok(())
        };
        scope.amend(object::name(budget), dry_run, count_down).await?;
        Ok(())
    }

    /// The pod says why it goes: its owner counts a disruption, not a failure.
    async fn announce(&self, name: &str) -> Result<(), ApiError> {
        let now = time::format_seconds(self.core.now_micros());
        let announced = self.amend(name, false, |pod| {
            let mut conditions = object::list(pod, "status.conditions").to_vec();
            conditions.retain(|condition| object::text(condition, "type") != "DisruptionTarget");
            conditions.push(
                json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now}),
            );
            object::set(pod, "status.conditions", Value::Array(conditions));
            Ok(())
        });
        announced.await.map(drop)
    }
}

fn number(budget: &Value, field: &str) -> i64 {
    object::integer(budget, &format!("status.{field}")).unwrap_or(0)
}

/// Whether the pod serves nobody now, so that the budget lets it go for nothing.
fn is_free(budget: &Value, pod: &Value) -> bool {
    let conditions = object::list(pod, "status.conditions");
    let ready = |c: &Value| object::text(c, "type") == "Ready" && object::text(c, "status") == "True";
    if conditions.iter().any(ready) {
        return false;
    }
    let enough = number(budget, "currentHealthy") >= number(budget, "desiredHealthy");
    let always = object::text(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow";
    always || (enough && number(budget, "desiredHealthy") > 0)
}

/// Whether the budget has a disruption to spend.
fn may_spend(scope: &Scope<'_>, budget: &Value) -> Result<(), ApiError> {
    let name = object::name(budget);
    let refused = |detail: String| {
        let cause = Cause {
            reason: "DisruptionBudget".to_owned(),
            message: detail,
            field: String::new(),
        };
        ApiError::too_many_requests(REFUSED, RETRY_SECONDS).with_cause(cause)
    };
    if number(budget, "observedGeneration") < object::generation(budget) {
        return Err(refused(format!(
            "The disruption budget {name} is still being processed by the server."
        )));
    }
    let evicted = object::map(budget, "status.disruptedPods");
    if evicted.is_some_and(|evicted| evicted.len() > DISRUPTED_LIMIT) {
        let message = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(ApiError::forbidden(&scope.kind.group_resource(), name, message));
    }
    if number(budget, "disruptionsAllowed") <= 0 {
        let (needed, healthy) = (number(budget, "desiredHealthy"), number(budget, "currentHealthy"));
        return Err(refused(format!(
            "The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
        )));
    }
    Ok(())
}
