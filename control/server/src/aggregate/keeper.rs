//! Keeps the registrations: those of definitions' groups come and go with these, and each that names a service is followed.
//!
//! Level-triggered, as the keeper of definitions is: every pass looks at all registrations, and a change of one, or of a
//! definition, starts another.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use coracle_api::kinds::Kind;
use coracle_api::{object, prepare};
use coracle_store::Watch;
use http::Method;
use serde_json::Value;

use super::follow::Follower;
use super::{GROUP, MANAGED, PATH, SERVICES, local};
use crate::core::Core;
use crate::identity::{Identity, MASTERS};
use crate::registry::Scope;
use crate::registry::hooks::Warnings;
use crate::served::DEFINITIONS;
use crate::{bootstrap, document, follow};

/// Keeps until the store closes or the server is dropped, which it holds weakly.
pub(crate) async fn keep(core: Weak<Core>) {
    let mut followers = HashMap::new();
    while let Some(watches) = pass(&core, &mut followers).await
        && follow::changed(&core, watches).await
    {}
}

/// Looks at all registrations once; the answer tells of changes from before the look on.
async fn pass(core: &Weak<Core>, followers: &mut HashMap<String, Follower>) -> Option<Vec<Watch>> {
    let strong = core.upgrade()?;
    let (snapshot, watches) = follow::watched(&strong.store, &[SERVICES, DEFINITIONS]);
    // Another server may have written them.
    strong.serving.refresh(&snapshot);
    strong.refresh_aggregation();
    let mut registered: HashMap<String, Value> = snapshot
        .range(SERVICES, None)
        .filter_map(|record| document::tree(record).ok())
        .map(|service| (object::name(&service).to_owned(), service))
        .collect();
    register_definitions(&strong, &mut registered).await;
    for service in registered.values() {
        stand_by(&strong, service).await;
    }
    let backends = strong.aggregation.backends();
    followers.retain(|name, follower| {
        let mut same = backends.iter();
        same.any(|backend| backend.name == *name && backend.spec == follower.spec)
    });
    for backend in backends {
        followers
            .entry(backend.name.clone())
            .or_insert_with(|| Follower::start(core, &backend));
    }
    Some(watches)
}

/// Makes the registrations of the groups that definitions make, and removes those whose group is gone.
async fn register_definitions(core: &Arc<Core>, registered: &mut HashMap<String, Value>) {
    let served = core.serving.current();
    let wanted = local::custom(&served.kinds);
    for (name, registration) in &wanted {
        if !registered.contains_key(name) {
            write(core, Method::POST, PATH, registration).await;
        }
    }
    let stale = |(name, service): &(&String, &Value)| {
        object::label(service, MANAGED) == Some("true") && !wanted.contains_key(*name)
    };
    let stale: Vec<String> = registered.iter().filter(stale).map(|(name, _)| name.clone()).collect();
    for name in stale {
        write(core, Method::DELETE, &format!("{PATH}/{name}"), &Value::Null).await;
        registered.remove(&name);
    }
}

/// A registration that names no service any more is of a group that is served here.
async fn stand_by(core: &Arc<Core>, service: &Value) {
    if object::get(service, "spec.service").is_some() {
        return;
    }
    let mut next = service.clone();
    let now = coracle_api::time::format_seconds(core.now_micros());
    prepare::apiregistration::local(&mut next, &now);
    if next == *service {
        return;
    }
    let Some(kind) = kind(core) else { return };
    let set = |current: &mut Value| {
        if object::get(current, "spec.service").is_none() {
            prepare::apiregistration::local(current, &now);
        }
        Ok(())
    };
    let written = scope(core, &kind, &Warnings::default())
        .amend(object::name(service), false, set)
        .await;
    if let Err(error) = written {
        tracing::debug!(service = object::name(service), %error, "an API service's status could not be written");
    }
}

async fn write(core: &Arc<Core>, method: Method, path: &str, object: &Value) {
    match bootstrap::send(core, method, path, object).await {
        Ok(()) => {}
        // Another server was faster.
        Err(error) if matches!(error.code, 404 | 409) => {}
        Err(error) => tracing::warn!(path, %error, "an API service could not be kept"),
    }
}

/// The kind of registrations.
pub(super) fn kind(core: &Core) -> Option<Arc<Kind>> {
    core.serving.find(&core.store, GROUP, "v1", "apiservices")
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::new("system:apiserver", &[MASTERS]))
}

pub(super) fn scope<'a>(core: &'a Core, kind: &'a Arc<Kind>, warnings: &'a Warnings) -> Scope<'a> {
    Scope {
        core,
        kind,
        shown: kind,
        namespace: None,
        identity: identity(),
        warnings,
    }
}
