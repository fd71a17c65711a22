//! What pods have to do, as their nodes measure it: users share a load among the ready pods of an app.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use coracle_api::status::ApiError;
use coracle_server::{
    ContainerTarget, Duplex, LogOptions, LogStream, NodeAnswer, NodeDialer, PodTarget, ProcessStreams,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    faults::Faults,
    laws::{is_over, is_ready, pods, sharing, text},
    ledger::{Ledger, Objects},
    time::Time,
};

/// The loads, and the nodes that measure them.
pub struct Loads {
    /// Thousandths of a CPU, by namespace and app.
    millis: Mutex<BTreeMap<(String, String), i64>>,
    ledger: Arc<Ledger>,
    faults: Arc<Faults>,
    time: Time,
}

impl Loads {
    pub fn new(ledger: Arc<Ledger>, faults: Arc<Faults>, time: Time) -> Arc<Self> {
        Arc::new(Self {
            millis: Mutex::default(),
            ledger,
            faults,
            time,
        })
    }

    /// All pods of an app together have so much to do from now on.
    pub fn set(&self, namespace: &str, app: &str, millis: i64) {
        self.millis
            .lock()
            .insert((namespace.to_owned(), app.to_owned()), millis);
    }

    /// What each pod uses of which `count` share the load of an app.
    pub fn each(&self, namespace: &str, app: &str, count: i64) -> i64 {
        let millis = self.millis.lock();
        let whole = millis
            .get(&(namespace.to_owned(), app.to_owned()))
            .copied()
            .unwrap_or(0);
        whole / count.max(1)
    }

    fn summary(&self, node: &str, objects: &Objects) -> Value {
        let at = self.time.timestamp().to_string();
        let here = pods(objects).filter(|(_, pod)| text(pod, "/spec/nodeName") == node && !is_over(pod));
        let told = here.map(|(_, pod)| {
            let (namespace, app) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/labels/app"));
            let ready = sharing(namespace, app, objects).filter(|pod| is_ready(pod)).count() as i64;
            let millis = match is_ready(pod) {
                true => self.each(namespace, app, ready),
                false => 0,
            };
            json!({"podRef": {"uid": text(pod, "/metadata/uid")}, "cpu": {"time": at}, "containers": [{"name": "c",
                "cpu": {"usageNanoCores": millis * 1_000_000}, "memory": {"workingSetBytes": 1 << 20}}]})
        });
        json!({"pods": told.collect::<Vec<Value>>()})
    }
}

fn nothing() -> ApiError {
    ApiError::service_unavailable("pods that pretend have no programs")
}

#[async_trait]
impl NodeDialer for Loads {
    async fn get(&self, node: &str, _: &str) -> Result<NodeAnswer, ApiError> {
        if self.faults.silences() {
            return Err(ApiError::service_unavailable("the node does not answer"));
        }
        let summary = self.ledger.look(|objects| {
            let found = objects.get(&format!("nodes//{node}")).filter(|node| is_ready(node));
            found.map(|_| self.summary(node, objects))
        });
        let summary = summary.ok_or_else(|| ApiError::service_unavailable("the node is away"))?;
        Ok(NodeAnswer {
            status: 200,
            content_type: "application/json".to_owned(),
            body: summary.to_string().into(),
        })
    }

    async fn logs(&self, _: &str, _: &ContainerTarget, _: &LogOptions) -> Result<LogStream, ApiError> {
        Err(nothing())
    }

    async fn connect(&self, _: &str, _: &PodTarget, _: u16) -> Result<Box<dyn Duplex>, ApiError> {
        Err(nothing())
    }

    async fn exec(&self, _: &str, _: &ContainerTarget, _: &[String], _: ProcessStreams) -> Result<i32, ApiError> {
        Err(nothing())
    }

    async fn attach(&self, _: &str, _: &ContainerTarget, _: ProcessStreams) -> Result<i32, ApiError> {
        Err(nothing())
    }
}
