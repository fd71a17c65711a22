//! Keeps the status of definitions true, and removes the objects of those that are deleted.
//!
//! Part of serving rather than a controller: a kind must be served the moment its names are accepted, and must not be
//! forgotten before its last object is gone. Level-triggered: every pass looks at all definitions, and a change of any
//! starts another pass. It writes through the registry like everybody.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use coracle_api::custom::{CLEANUP, GROUP, definition, names};
use coracle_api::kinds::Kind;
use coracle_api::object;
use coracle_api::status::ApiError;
use coracle_api::time;
use coracle_store::Watch;
use parking_lot::Mutex;
use serde_json::Value;

use crate::core::Core;
use crate::identity::{Identity, MASTERS};
use crate::query::{ListOptions, Query};
use crate::registry::Scope;
use crate::registry::deletion::DeleteOptions;
use crate::registry::hooks::Warnings;
use crate::served::DEFINITIONS;
use crate::{document, follow};

/// The pause after a failure to remove a definition's objects. Failures are races with other writers, over within
/// moments; a longer trouble (a full disk) must not be met with a busy loop.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps until the store closes or the server is dropped. It holds the server weakly, so that it never keeps it alive.
pub(crate) async fn keep(core: Weak<Core>) {
    let cleaning = Arc::new(Mutex::new(HashSet::new()));
    while let Some(watches) = pass(&core, &cleaning).await
        && follow::changed(&core, watches).await
    {}
}

/// Looks at all definitions once; the answer tells of changes from before the look on.
async fn pass(core: &Weak<Core>, cleaning: &Arc<Mutex<HashSet<String>>>) -> Option<Vec<Watch>> {
    let core = core.upgrade()?;
    let (snapshot, watches) = follow::watched(&core.store, &[DEFINITIONS]);
    // Another server may have written it.
    core.serving.refresh(&snapshot);
    let definitions: Vec<Value> = snapshot
        .range(DEFINITIONS, None)
        .filter_map(|record| document::tree(record).ok())
        .collect();
    let kind = core
        .serving
        .find(&core.store, GROUP, "v1", "customresourcedefinitions")?;
    let now = time::format_seconds(core.now_micros());
    for one in &definitions {
        let name = object::name(one);
        if object::deletion_timestamp(one).is_some() {
            let held = object::finalizers(one).any(|finalizer| finalizer == CLEANUP);
            if held && cleaning.lock().insert(name.to_owned()) {
                tokio::spawn(clean(
                    Arc::downgrade(&core),
                    kind.clone(),
                    one.clone(),
                    cleaning.clone(),
                ));
            }
        } else if let Some(status) = names::next_status(one, &definitions, &now) {
            let wanted = object::uid(one).to_owned();
            let set = |current: &mut Value| {
                if object::uid(current) == wanted {
                    object::set(
                        current,
                        "status.acceptedNames",
                        status.get("acceptedNames").cloned().unwrap_or_default(),
                    );
                    object::set(
                        current,
                        "status.conditions",
                        status.get("conditions").cloned().unwrap_or_default(),
                    );
                }
                Ok(())
            };
            report(
                name,
                scope(&core, &kind, &Warnings::default())
                    .amend(name, false, set)
                    .await
                    .map(drop),
            );
        }
    }
    Some(watches)
}

/// Who this is.
fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::new("system:apiserver", &[MASTERS]))
}

fn scope<'a>(core: &'a Core, kind: &'a Arc<Kind>, warnings: &'a Warnings) -> Scope<'a> {
    Scope {
        core,
        kind,
        shown: kind,
        namespace: None,
        identity: identity(),
        warnings,
    }
}

fn report(name: &str, result: Result<(), ApiError>) {
    match result {
        Ok(()) => {}
        Err(error) if error.code == 404 => {}
        Err(error) => tracing::warn!(definition = name, %error, "a definition's status could not be written"),
    }
}

async fn clean(core: Weak<Core>, kind: Arc<Kind>, one: Value, cleaning: Arc<Mutex<HashSet<String>>>) {
    let name = object::name(&one).to_owned();
    loop {
        match remove_objects(&core, &kind, &one).await {
            Err(error) if error.code != 404 => {
                report(&name, Err(error));
                tokio::time::sleep(RETRY).await;
            }
            _ => break,
        }
    }
    cleaning.lock().remove(&name);
}

/// Deletes all objects, waits for those that finalizers hold, and then lets the definition go.
async fn remove_objects(core: &Weak<Core>, kind: &Arc<Kind>, one: &Value) -> Result<(), ApiError> {
    let name = object::name(one);
    terminating(core, kind, name, true).await?;
    let prefix = format!(
        "{}.{}/",
        object::text(one, "spec.names.plural"),
        object::text(one, "spec.group")
    );
    loop {
        let Some(strong) = core.upgrade() else { return Ok(()) };
        let snapshot = strong.store.snapshot();
        let Some(row) = own_row(&strong, name) else { break };
        delete_all(&strong, &row).await?;
        if strong.store.snapshot().range(&prefix, None).next().is_none() {
            break;
        }
        let watch = strong.store.watch(&prefix, snapshot.revision());
        let closing = strong.closing.clone();
        drop(strong);
        let Ok(mut watch) = watch else { continue };
        tokio::select! {
            () = closing.cancelled() => return Ok(()),
            event = watch.next() => if event.is_none() { return Ok(()) },
        }
    }
    terminating(core, kind, name, false).await?;
    let Some(strong) = core.upgrade() else { return Ok(()) };
    let row = own_row(&strong, name);
    let release = |current: &mut Value| {
        let kept: Vec<String> = object::finalizers(current)
            .filter(|finalizer| *finalizer != CLEANUP)
            .map(str::to_owned)
            .collect();
        object::set_finalizers(current, &kept.iter().map(String::as_str).collect::<Vec<_>>());
        Ok(())
    };
    scope(&strong, kind, &Warnings::default())
        .amend(name, false, release)
        .await?;
    // A create that was under way may have been committed between the last look and the end of the definition; from the
    // end on none can be.
    match row {
        Some(row) => delete_all(&strong, &row).await,
        None => Ok(()),
    }
}

fn own_row(core: &Core, definition: &str) -> Option<Arc<Kind>> {
    let served = core.serving.current();
    let of = |kind: &&Arc<Kind>| {
        kind.custom
            .as_ref()
            .is_some_and(|custom| custom.definition == definition)
    };
    // The version in which objects are stored needs no conversion, whose webhook may be gone already.
    let stored = |kind: &&Arc<Kind>| {
        kind.custom
            .as_ref()
            .is_some_and(|custom| custom.stored_as == custom.served_as)
    };
    let own = || served.kinds.iter().filter(of);
    own().find(stored).or_else(|| own().next()).cloned()
}

async fn delete_all(core: &Core, row: &Arc<Kind>) -> Result<(), ApiError> {
    let everything = ListOptions::parse(&Query::default(), false)?;
    scope(core, row, &Warnings::default())
        .delete_collection(&everything, &DeleteOptions::default())
        .await?;
    Ok(())
}

async fn terminating(core: &Weak<Core>, kind: &Arc<Kind>, name: &str, running: bool) -> Result<(), ApiError> {
    let Some(core) = core.upgrade() else { return Ok(()) };
    let now = time::format_seconds(core.now_micros());
    let (reason, message) = match running {
        true => ("InstanceDeletionInProgress", "CustomResource deletion is in progress"),
        false => ("InstanceDeletionCompleted", "removed all instances"),
    };
    let set = |current: &mut Value| {
        let mut conditions = object::list(current, "status.conditions").to_vec();
        names::set(&mut conditions, "Terminating", running, reason, message, &now);
        object::set(current, "status.conditions", Value::Array(conditions));
        Ok(())
    };
    scope(&core, kind, &Warnings::default())
        .amend(name, false, set)
        .await
        .map(drop)
}

/// Puts the finalizer into a definition that is about to be deleted.
pub(crate) fn hold(definition: &mut Value) {
    if object::deletion_timestamp(definition).is_some() || !definition::is_true(definition, "Established") {
        return;
    }
    let mut all: Vec<String> = object::finalizers(definition).map(str::to_owned).collect();
    if !all.iter().any(|finalizer| finalizer == CLEANUP) {
        all.push(CLEANUP.to_owned());
        object::set_finalizers(definition, &all.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
