//! What every request shares: the store, the kinds, the rules, the address pools and the dialers.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use coracle_store::{Clock, Store};
use tokio_util::sync::CancellationToken;

use crate::aggregate::Aggregation;
use crate::allocate::Addresses;
use crate::authz::node::Nodes;
use crate::authz::{self, Policies};
use crate::follow::follow;
use crate::frames::Frames;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::policy::{self, AdmissionPolicies};
use crate::served::Serving;
use crate::tokens::Tokens;
use crate::turns::Turns;
use crate::webhook::{self, Webhooks};
use crate::{AuditLog, ClusterDialer, Config, NodeDialer, Pki, Version};

/// The state of one server. Nothing in it is held locked across an await, but for the turns of those who charge quotas.
pub(crate) struct Core {
    pub(crate) store: Store,
    pub(crate) serving: Serving,
    pub(crate) policies: Policies,
    pub(crate) webhooks: Webhooks,
    pub(crate) admission_policies: AdmissionPolicies,
    pub(crate) aggregation: Aggregation,
    pub(crate) nodes_rights: Arc<Nodes>,
    pub(crate) tokens: Tokens,
    pub(crate) pki: Pki,
    pub(crate) addresses: Addresses,
    pub(crate) nodes: Arc<dyn NodeDialer>,
    pub(crate) cluster: Arc<dyn ClusterDialer>,
    pub(crate) version: Version,
    pub(crate) frames: Frames,
    /// Who may charge quotas next.
    pub(crate) turns: Turns,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) advertise: Option<(std::net::IpAddr, u16)>,
    pub(crate) audit: Option<AuditLog>,
    pub(crate) signing_seconds: u64,
    clock: Clock,
    /// Cancelled when the server drains: streams that would go on for ever end.
    pub(crate) closing: CancellationToken,
}

impl Core {
    pub(crate) fn new(config: Config, tokens: Tokens) -> Self {
        let snapshot = config.store.snapshot();
        Self {
            policies: Policies::new(&snapshot),
            webhooks: Webhooks::new(&snapshot),
            admission_policies: AdmissionPolicies::new(&snapshot),
            aggregation: Aggregation::new(&snapshot, &config.pki),
            addresses: Addresses::new(&config, &snapshot),
            nodes_rights: Arc::new(Nodes::new(&crate::bootstrap::components::node())),
            tokens,
            pki: config.pki,
            nodes: config.nodes,
            cluster: config.cluster,
            serving: Serving::new(&snapshot, &config.version),
            version: config.version,
            frames: Frames::default(),
            turns: Turns::default(),
            health: Health::default(),
            metrics: Metrics::default(),
            advertise: config.advertise,
            audit: config.audit,
            signing_seconds: config.signing_seconds,
            clock: config.clock,
            closing: CancellationToken::new(),
            store: config.store,
        }
    }

    /// Keeps up with roles, webhooks and policies that others write, until `stop`.
    pub(crate) async fn follow(&self, stop: &CancellationToken) {
        let store = &self.store;
        tokio::join!(
            follow(store, &authz::PREFIXES, stop, |revision| self
                .policies
                .catch_up(store, revision)),
            follow(store, &webhook::PREFIXES, stop, |revision| self
                .webhooks
                .catch_up(store, revision)),
            follow(store, &policy::PREFIXES, stop, |revision| {
                self.admission_policies.catch_up(store, revision);
            }),
        );
    }

    /// The time, in microseconds since 1970. The one place where the server looks at a clock for what it writes.
    pub(crate) fn now_micros(&self) -> i64 {
        let since = (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }
}

/// A uid that nothing else has. From the thread's generator, which asks the system for chance now and then only: every
/// request takes one.
pub(crate) fn new_uid() -> String {
    let uid = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    uid.to_string()
}
