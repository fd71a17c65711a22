//! What a person learns of a renewal that fails: the log of the node, and an event that `kubectl describe node` shows.

use coracle_link::Purpose;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

const REASON: &str = "CertificateNotRenewed";

/// The failures since it last went well: one event, which counts.
pub(super) struct Told {
    events: Api<Event>,
    node: String,
    purpose: Purpose,
    event: Option<(String, i32)>,
}

impl Told {
    pub(super) fn new(client: Client, node: &str, purpose: Purpose) -> Self {
        Self {
            // Where events of what has no namespace are kept.
            events: Api::namespaced(client, "default"),
            node: node.to_owned(),
            purpose,
            event: None,
        }
    }

    /// It went well: the next failure is another matter.
    pub(super) fn well(&mut self) {
        self.event = None;
    }

    /// It has failed.
    pub(super) async fn failed(&mut self, message: &str) {
        tracing::warn!("{message}");
        if let Err(error) = self.event(message).await {
            // The cluster may be what fails.
            tracing::debug!(%error, "an event was not written");
        }
    }

    async fn event(&mut self, message: &str) -> Result<(), kube::Error> {
        let now = Timestamp::now();
        // Times of events are whole seconds.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        if let Some((name, count)) = &mut self.event {
            *count += 1;
            let patch = json!({"count": *count, "message": message, "lastTimestamp": Time(now)});
            let patched = self
                .events
                .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await;
            match patched {
                // It was old enough to be dropped.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let made = self
            .events
            .create(&PostParams::default(), &self.first(message, now))
            .await?;
        self.event = made.metadata.name.map(|name| (name, 1));
        Ok(())
    }

    fn first(&self, message: &str, now: Timestamp) -> Event {
        let purpose = match self.purpose {
            Purpose::Client => "client",
            Purpose::Serving => "serving",
        };
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{purpose}.{:x}", self.node, now.as_microsecond())),
                namespace: Some("default".to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(self.node.clone()),
                // `kubectl describe node` looks for events by this, as the kubelet writes them.
                uid: Some(self.node.clone()),
                ..ObjectReference::default()
            },
            type_: Some("Warning".to_owned()),
            reason: Some(REASON.to_owned()),
            message: Some(message.to_owned()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node.clone()),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node.clone()),
            }),
            ..Event::default()
        }
    }
}
