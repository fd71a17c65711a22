//! Events on the objects that the edge shows.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// Writes events in the name of the edge.
#[derive(Clone)]
pub struct Report(Recorder);

impl Report {
    /// Writes with this client.
    pub fn new(client: Client) -> Self {
        let reporter = Reporter {
            controller: "coracle-edge".to_owned(),
            instance: None,
        };
        Self(Recorder::new(client, reporter))
    }

    /// Tells of an object, well or badly. An event that cannot be written is only logged: nothing depends on it.
    pub async fn tell(&self, about: &ObjectReference, good: bool, reason: &str, note: String) {
        let event = Event {
            type_: if good { EventType::Normal } else { EventType::Warning },
            reason: reason.to_owned(),
            note: Some(note),
            action: reason.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, about).await {
            tracing::debug!(%error, reason, "an event is lost");
        }
    }
}
