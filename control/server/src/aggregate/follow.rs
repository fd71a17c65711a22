//! Follows one registration: whether its server answers, and what it says of its kinds.
//!
//! A pass judges the service and its endpoints, then asks the server. The next pass comes when one of them changes, or at
//! a deadline: servers come and go without telling.

use std::sync::{Arc, Weak};
use std::time::Duration;

use coracle_api::custom::names;
use coracle_api::{object, time};
use coracle_store::Watch;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::available::{Verdict, obstacle};
use super::backend::Backend;
use super::{fetch, keeper};
use crate::core::Core;
use crate::registry::hooks::Warnings;

/// How often a server is asked that answered, as in Kubernetes.
const AGAIN: Duration = Duration::from_secs(30);
/// How soon one is asked again that did not; each failure doubles it up to the above.
const SOON: Duration = Duration::from_millis(500);

/// Follows until the registration changes, the store closes or the server is dropped.
pub(super) async fn follow(core: Weak<Core>, name: String) {
    let mut failures = 0;
    loop {
        let Some(strong) = core.upgrade() else { return };
        let closing = strong.closing.clone();
        let Some(backend) = strong.aggregation.named(&name) else {
            return;
        };
        let Some((service, slices, verdict)) = pass(&strong, &backend).await else {
            continue;
        };
        drop(strong);
        failures = if verdict.available { 0 } else { failures + 1 };
        let pause = match verdict.reason {
            "Passed" => AGAIN,
            "FailedDiscoveryCheck" => AGAIN.min(SOON * 2_u32.saturating_pow(failures - 1)),
            // Nothing but a change of the objects can help.
            _ => Duration::MAX,
        };
        tokio::select! {
            () = closing.cancelled() => return,
            going_on = changed(&backend, service, slices) => if !going_on { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Looks once. The watches tell of changes from before the look on; without them the state was too old to watch from.
async fn pass(core: &Arc<Core>, backend: &Backend) -> Option<(Watch, Watch, Verdict)> {
    let snapshot = core.store.snapshot();
    let from = snapshot.revision();
    let watch = core.store.watch(&backend.service_key(), from).ok()?;
    let slices = core.store.watch(&backend.slices_prefix(), from).ok()?;
    let (service, found) = backend.surroundings(&snapshot);
    let verdict = match obstacle(
        &backend.namespace,
        &backend.service,
        backend.port,
        service.as_ref(),
        &found,
    ) {
        Some(verdict) => verdict,
        None => ask(core, backend).await,
    };
    report(core, backend, &verdict).await;
    if verdict.available {
        let known = core.aggregation.documents_of(&backend.name);
        core.learn(&backend.name, fetch::documents(core, backend, &known).await);
    }
    Some((watch, slices, verdict))
}

async fn ask(core: &Core, backend: &Backend) -> Verdict {
    match fetch::resources(core, backend).await {
        Ok(resources) => {
            // Before the condition says so: who waits for it looks at the kinds next.
            let mut documents = (*core.aggregation.documents_of(&backend.name)).clone();
            documents.resources = resources;
            core.learn(&backend.name, documents);
            Verdict::passed()
        }
        Err(why) => {
            let url = format!("https://{}:{}/{}", backend.host(), backend.port, backend.path());
            Verdict::failing(&url, &why)
        }
    }
}

async fn report(core: &Arc<Core>, backend: &Backend, verdict: &Verdict) {
    let Some(kind) = keeper::kind(core) else { return };
    let now = time::format_seconds(core.now_micros());
    let set = |current: &mut Value| {
        if current.get("spec") == Some(&backend.spec) {
            let mut conditions = object::list(current, "status.conditions").to_vec();
            names::set(
                &mut conditions,
                "Available",
                verdict.available,
                verdict.reason,
                &verdict.message,
                &now,
            );
            object::set(current, "status.conditions", Value::Array(conditions));
        }
        Ok(())
    };
    let warnings = Warnings::default();
    let written = keeper::scope(core, &kind, &warnings)
        .amend(&backend.name, false, set)
        .await;
    match written {
        Ok(_) => {}
        Err(error) if error.code == 404 => {}
        Err(error) => tracing::warn!(service = backend.name, %error, "an API service's status could not be written"),
    }
}

/// Waits for a change that may matter; false when there will be none.
async fn changed(backend: &Backend, mut service: Watch, mut slices: Watch) -> bool {
    loop {
        tokio::select! {
            event = service.next() => return event.is_some(),
            event = slices.next() => match event {
                None => return false,
                Some(Ok(event)) if !backend.owns_slice(&event.record) => {}
                Some(_) => return true,
            },
        }
    }
}

/// A follower under way.
pub(super) struct Follower {
    pub(super) spec: Value,
    stop: CancellationToken,
}

impl Follower {
    pub(super) fn start(core: &Weak<Core>, backend: &Backend) -> Self {
        let stop = CancellationToken::new();
        let (token, core, name) = (stop.clone(), core.clone(), backend.name.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = follow(core, name) => {}
            }
        });
        Self {
            spec: backend.spec.clone(),
            stop,
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
