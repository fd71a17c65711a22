//! What a node tells of its pods' traffic: `/net/flows/NAMESPACE/POD` and `/net/capture/NAMESPACE/POD`.
//!
//! Both answer when there is something new, or after a while with nothing, so that who follows asks again.

use crate::stats::Told;
use coracle_net::capture::pcapng;
use coracle_net::{Direction, FlowCounts, FlowEvent, FlowRecord, PodNet};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long an answer waits for news: less than those in between wait for an answer.
const NEWS: Duration = Duration::from_secs(20);

/// A question about a pod's traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub namespace: String,
    pub pod: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// The flow log after a record, and whether to wait until there is such a one.
    Flows(u64, bool),
    /// What a capture has brought, and whether to wait until it has brought something. The first question begins it.
    Packets(bool),
    /// The end of a capture.
    EndOfCapture,
}

impl Question {
    /// Of a path with its query, where it is one.
    pub fn parse(path: &str) -> Option<Self> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut parts = path.strip_prefix("/net/")?.split('/');
        let (kind, namespace, pod) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let asked = |key: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
        };
        let wait = asked("wait") != Some("false");
        let what = match kind {
            "flows" => {
                let after = asked("after").map_or(Some(0), |number| number.parse().ok())?;
                What::Flows(after, wait)
            }
            "capture" if asked("end") == Some("true") => What::EndOfCapture,
            "capture" => What::Packets(wait),
            _ => return None,
        };
        Some(Self {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            what,
        })
    }

    /// The answer; none once the pod is gone.
    pub async fn answer(self, net: Arc<PodNet>) -> Option<Told> {
        match self.what {
            What::Flows(after, wait) => Some(flows(&net, after, wait).await),
            What::Packets(wait) => packets(&net, wait).await,
            What::EndOfCapture => {
                net.end_capture();
                Some(binary(Vec::new()))
            }
        }
    }
}

async fn flows(net: &PodNet, after: u64, wait: bool) -> Told {
    if wait {
        let mut last = net.last_flow();
        // Without news the answer is what it was, and that is right as well.
        let _ = tokio::time::timeout(NEWS, last.wait_for(|last| *last > after)).await;
    }
    let records = net.flows_after(after);
    let next = records.last().map_or(after, |record| record.number);
    let flows: Vec<Value> = records.iter().map(flow).collect();
    let body = json!({"next": next, "counts": counts(net.flow_counts()), "flows": flows});
    Told {
        content_type: "application/json",
        body: body.to_string().into(),
    }
}

fn flow(record: &FlowRecord) -> Value {
    let mut flow = json!({
        "number": record.number,
        "time": Timestamp::try_from(record.at).unwrap_or_default().to_string(),
        "direction": if record.direction == Direction::Outbound { "outbound" } else { "inbound" },
        "protocol": record.protocol.name(),
        "peer": record.peer.to_string(),
    });
    if let (Some(local), Some(object)) = (record.local, flow.as_object_mut()) {
        object.insert("local".to_owned(), json!(local.to_string()));
    }
    let event = match record.event {
        FlowEvent::Opened => json!({"event": "opened"}),
        FlowEvent::Closed { sent, received } => {
            json!({"event": "closed", "sentBytes": sent, "receivedBytes": received})
        }
        FlowEvent::Failed(error) => json!({"event": "failed", "error": error.to_string()}),
    };
    if let (Some(object), Value::Object(event)) = (flow.as_object_mut(), event) {
        object.extend(event);
    }
    flow
}

fn counts(counts: FlowCounts) -> Value {
    json!({
        "openedOutbound": counts.opened_outbound, "openedInbound": counts.opened_inbound, "closed": counts.closed,
        "denied": counts.denied, "failed": counts.failed, "sentBytes": counts.bytes_sent,
        "receivedBytes": counts.bytes_received, "datagramsSent": counts.datagrams_sent,
        "datagramsReceived": counts.datagrams_received,
    })
}

/// How many packets were lost since the last answer, in 8 bytes, and the blocks of the packets.
async fn packets(net: &PodNet, wait: bool) -> Option<Told> {
    net.start_capture().ok()?;
    let patience = if wait { NEWS } else { Duration::ZERO };
    let (packets, lost) = match tokio::time::timeout(patience, net.capture()).await {
        Ok(captured) => captured.ok()?,
        Err(_) => (Vec::new(), 0),
    };
    let mut body = lost.to_be_bytes().to_vec();
    packets.iter().for_each(|packet| body.extend(pcapng::packet(packet)));
    Some(binary(body))
}

fn binary(body: Vec<u8>) -> Told {
    Told {
        content_type: "application/octet-stream",
        body: body.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_paths() {
        let question = |what| {
            Some(Question {
                namespace: "demo".into(),
                pod: "web".into(),
                what,
            })
        };
        for (path, parsed) in [
            ("/net/flows/demo/web", question(What::Flows(0, true))),
            ("/net/flows/demo/web?x=1&after=7", question(What::Flows(7, true))),
            ("/net/flows/demo/web?wait=false", question(What::Flows(0, false))),
            ("/net/flows/demo/web?after=seven", None),
            ("/net/capture/demo/web", question(What::Packets(true))),
            ("/net/capture/demo/web?end=true", question(What::EndOfCapture)),
            ("/net/capture/demo/web/more", None),
            ("/net/other/demo/web", None),
            ("/net/flows/demo", None),
            ("/stats/summary", None),
        ] {
            assert_eq!(Question::parse(path), parsed, "{path}");
        }
    }
}
