//! Keeps the `Dangling` condition of flow schemas true: whether the priority level that a schema names is there.
//!
//! Level-triggered, as the keeper of definitions is. It writes through the registry like everybody.

use std::sync::{Arc, OnceLock, Weak};

use coracle_api::custom::names;
use coracle_api::{object, time};
use coracle_store::{Snapshot, Watch};
use serde_json::Value;

use crate::core::Core;
use crate::identity::{Identity, MASTERS};
use crate::registry::Scope;
use crate::registry::hooks::Warnings;
use crate::{document, follow};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas.flowcontrol.apiserver.k8s.io/";
const LEVELS: &str = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io/";

/// Keeps until the store closes or the server is dropped, which it holds weakly.
pub(crate) async fn keep(core: Weak<Core>) {
    while let Some(watches) = pass(&core).await
        && follow::changed(&core, watches).await
    {}
}

/// Looks at all schemas once; the answer tells of changes from before the look on.
async fn pass(core: &Weak<Core>) -> Option<Vec<Watch>> {
    let core = core.upgrade()?;
    let (snapshot, watches) = follow::watched(&core.store, &[SCHEMAS, LEVELS]);
    let now = time::format_seconds(core.now_micros());
    for record in snapshot.range(SCHEMAS, None) {
        let Ok(schema) = document::tree(record) else { continue };
        let mut next = schema.clone();
        judge(&mut next, &snapshot, &now);
        if next != schema {
            write(&core, object::name(&schema), &now).await;
        }
    }
    Some(watches)
}

/// Says of a schema whether its level is missing.
fn judge(schema: &mut Value, snapshot: &Snapshot, now: &str) {
    let level = object::text(schema, "spec.priorityLevelConfiguration.name").to_owned();
    let there = snapshot.get(&format!("{LEVELS}/{level}")).is_some();
    let (reason, ending) = match there {
        true => ("Found", "and it exists"),
        false => ("NotFound", "but there is no such object"),
    };
    let words = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {ending}");
    let mut conditions = object::list(schema, "status.conditions").to_vec();
    names::set(&mut conditions, "Dangling", !there, reason, &words, now);
    object::set(schema, "status.conditions", Value::Array(conditions));
}

async fn write(core: &Arc<Core>, name: &str, now: &str) {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    let Some(kind) = core.serving.find(&core.store, GROUP, "v1", "flowschemas") else {
        return;
    };
    let warnings = Warnings::default();
    let scope = Scope {
        core,
        kind: &kind,
        shown: &kind,
        namespace: None,
        identity: IDENTITY.get_or_init(|| Identity::new("system:apiserver", &[MASTERS])),
        warnings: &warnings,
    };
    let set = |current: &mut Value| {
        judge(current, &core.store.snapshot(), now);
        Ok(())
    };
    match scope.amend(name, false, set).await {
        Ok(_) => {}
        Err(error) if error.code == 404 => {}
        Err(error) => tracing::warn!(schema = name, %error, "a flow schema's status could not be written"),
    }
}
