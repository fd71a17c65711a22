//! The webhook configurations, compiled: what a write must be checked against, without reading objects for each.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_api::field_error::Path;
use coracle_api::object;
use coracle_api::policy::{self, Condition};
use coracle_store::{Snapshot, Store};
use parking_lot::Mutex;
use serde_json::Value;

use crate::document;
use crate::matching::Constraints;

/// The group of the configurations.
pub(crate) const GROUP: &str = "admissionregistration.k8s.io";
/// What the keys of the configurations begin with.
pub(crate) const PREFIXES: [&str; 2] = [MUTATING, VALIDATING];
const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io/";
const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io/";
/// How long a webhook may take that does not say.
const TIMEOUT_SECONDS: u64 = 10;
/// The longest that any may take, as in Kubernetes.
const MOST_SECONDS: u64 = 30;

/// The newest configurations. A write of one makes them new before its writer is answered.
pub(crate) struct Webhooks {
    current: ArcSwap<Hooks>,
    /// Held while they are compiled, so that older ones never replace newer ones.
    compiling: Mutex<()>,
}

impl Webhooks {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        Self {
            current: ArcSwap::from_pointee(Hooks::compile(snapshot)),
            compiling: Mutex::new(()),
        }
    }

    pub(super) fn current(&self) -> Arc<Hooks> {
        self.current.load_full()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        let hooks = self.current.load();
        hooks.mutating.is_empty() && hooks.validating.is_empty()
    }

    /// Makes the configurations at least as new as `snapshot`.
    pub(crate) fn refresh(&self, snapshot: &Snapshot) {
        let _compiling = self.compiling.lock();
        if self.current.load().revision < snapshot.revision() {
            self.current.store(Arc::new(Hooks::compile(snapshot)));
        }
    }

    /// The same after a change. A write of this server's own has been compiled in already.
    pub(crate) fn catch_up(&self, store: &Store, revision: u64) {
        if self.current.load().revision < revision {
            self.refresh(&store.snapshot());
        }
    }
}

/// All webhooks at one revision, in the order in which they are asked.
#[derive(Default)]
pub(super) struct Hooks {
    revision: u64,
    pub(super) mutating: Vec<Hook>,
    pub(super) validating: Vec<Hook>,
}

impl Hooks {
    fn compile(snapshot: &Snapshot) -> Self {
        Self {
            revision: snapshot.revision(),
            mutating: hooks(snapshot, MUTATING),
            validating: hooks(snapshot, VALIDATING),
        }
    }
}

/// Configurations by name, and their webhooks in the order of the list.
fn hooks(snapshot: &Snapshot, prefix: &str) -> Vec<Hook> {
    let mut hooks = Vec::new();
    for record in snapshot.range(prefix, None) {
        match document::tree(record) {
            Ok(configuration) => hooks.extend(object::list(&configuration, "webhooks").iter().map(Hook::of)),
            Err(error) => tracing::error!(
                key = record.key.as_str(),
                error = error.message,
                "a webhook configuration is lost"
            ),
        }
    }
    hooks
}

/// One webhook.
#[derive(Debug)]
pub(super) struct Hook {
    pub(super) name: String,
    pub(super) constraints: Constraints,
    /// What else must hold.
    pub(super) conditions: Vec<Condition>,
    pub(super) ignore_failure: bool,
    pub(super) timeout: Duration,
    /// Whether it may be asked about a dry run.
    pub(super) dry_run: bool,
    /// Whether it wants to be asked again when the object changed after it.
    pub(super) again: bool,
    pub(super) endpoint: Endpoint,
    /// The authorities of its certificate, PEM; those that the system trusts, if none are given.
    pub(super) authorities: Vec<u8>,
}

/// Where a webhook answers.
#[derive(Debug)]
pub(super) enum Endpoint {
    Url(String),
    Service {
        namespace: String,
        name: String,
        port: u16,
        path: String,
    },
}

impl Endpoint {
    pub(super) fn of(client: &Value) -> Self {
        if let Some(url) = object::get(client, "url").and_then(Value::as_str) {
            return Self::Url(url.to_owned());
        }
        let text = |path: &str| object::text(client, path).to_owned();
        let port = object::get(client, "service.port").and_then(Value::as_u64);
        Self::Service {
            namespace: text("service.namespace"),
            name: text("service.name"),
            port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            path: text("service.path"),
        }
    }

    /// The address as errors show it.
    pub(super) fn url(&self, timeout: Duration) -> String {
        let seconds = timeout.as_secs();
        match self {
            Self::Url(url) => {
                let separator = if url.contains('?') { '&' } else { '?' };
                format!("{url}{separator}timeout={seconds}s")
            }
            Self::Service {
                namespace,
                name,
                port,
                path,
            } => {
                let slash = if path.starts_with('/') { "" } else { "/" };
                format!("https://{name}.{namespace}.svc:{port}{slash}{path}?timeout={seconds}s")
            }
        }
    }
}

impl Hook {
    fn of(webhook: &Value) -> Self {
        let seconds = object::get(webhook, "timeoutSeconds").and_then(Value::as_u64);
        let empty = Value::Null;
        let client = webhook.get("clientConfig").unwrap_or(&empty);
        let conditions = object::list(webhook, "matchConditions");
        // They compile: those that do not were refused when the configuration was written.
        let conditions = policy::conditions(
            conditions,
            Path::root("matchConditions"),
            &policy::webhook_names(),
            &mut Vec::new(),
        );
        Self {
            name: object::text(webhook, "name").to_owned(),
            constraints: Constraints::of(webhook, "rules"),
            conditions,
            ignore_failure: object::text(webhook, "failurePolicy") == "Ignore",
            timeout: Duration::from_secs(seconds.unwrap_or(TIMEOUT_SECONDS).clamp(1, MOST_SECONDS)),
            dry_run: matches!(object::text(webhook, "sideEffects"), "None" | "NoneOnDryRun"),
            again: object::text(webhook, "reinvocationPolicy") == "IfNeeded",
            endpoint: Endpoint::of(client),
            authorities: STANDARD.decode(object::text(client, "caBundle")).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_webhook_leaves_out_has_a_default() {
        let hook = Hook::of(
            &json!({"name": "a.b.c", "sideEffects": "None", "clientConfig": {"service": {"namespace": "n", "name": "s", "path": "/p"}}}),
        );
        assert_eq!(hook.timeout, Duration::from_secs(10));
        assert!(!hook.ignore_failure && hook.dry_run && !hook.again);
        assert_eq!(hook.endpoint.url(hook.timeout), "https://s.n.svc:443/p?timeout=10s");
    }

    #[test]
    fn an_address_keeps_its_query() {
        let hook = Hook::of(&json!({"clientConfig": {"url": "https://h/x?a=b"}, "timeoutSeconds": 3}));
        assert_eq!(hook.endpoint.url(hook.timeout), "https://h/x?a=b&timeout=3s");
    }
}
