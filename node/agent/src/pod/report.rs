//! Tells the API: one request at a time, only when something changed, at once.
//!
//! A request that fails is repeated later with what is true then. A pod that was asked to end is deleted from the API when its
//! last status has arrived there.

use super::{Done, PodTask, is_starting};
use crate::cell::Object;
use crate::clock::after;
use crate::observed::{Cause, Sandbox, Seen, Volumes};
use crate::status::{self, Host};
use crate::status_patch;
use http::{Request, header};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::core::PartialObjectMeta;
use serde_json::{Value, json};
use std::time::Duration;

/// Pauses after requests that failed; doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

impl PodTask {
    /// Sends what has to be sent. Returns when to look again.
    pub(super) fn report(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.report.busy || self.report.deleted || self.is_gone() {
            return None;
        }
        if let Some(retry_at) = self.report.retry_at.filter(|retry_at| *retry_at > now) {
            return Some(retry_at);
        }
        if let Some(hold_until) = self.held_back(now) {
            return Some(hold_until);
        }
        let Some(uid) = self.object_uid() else {
            if self.is_finished() {
                // Nobody was told of the pod, so nobody has to be told of its end.
                self.cell.gone();
            }
            return None;
        };
        if self.report.uid.as_ref().is_some_and(|told| *told != uid) {
            self.report.told = None;
        }
        self.report.uid = Some(uid.clone());
        let host = Host {
            ip: self.node.identity.ip,
        };
        let told = self.report.told.as_deref();
        let status = status::status(&self.pod, &self.shape, &self.observed, told, &host, now);
        self.observed.phase = status::phase(&self.shape, &self.observed);
        match status_patch::patch(&uid, told, &status) {
            Some(patch) => self.send_status(Box::new(status), patch),
            None if self.is_finished() => self.send_deletion(&uid),
            None => {}
        }
        None
    }

    /// A start that is under way is usually over in a moment; its result is told and not its beginning.
    fn held_back(&self, now: Timestamp) -> Option<Timestamp> {
        let starting = self.observed.volumes == Volumes::Mounting
            || self.observed.containers.iter().any(|seen| is_starting(&seen.state));
        self.report
            .hold_until
            .filter(|until| starting && self.observed.doom.is_none() && *until > now)
    }

    /// Whether the pod was asked to end and has.
    fn is_finished(&self) -> bool {
        let asked = self
            .observed
            .doom
            .as_ref()
            .is_some_and(|doom| doom.cause == Cause::Deleted);
        asked
            && !matches!(self.observed.sandbox, Sandbox::Ready(_))
            && !self.observed.containers.iter().any(Seen::is_running)
    }

    fn send_status(&mut self, status: Box<PodStatus>, patch: Value) {
        self.report.busy = true;
        let path = format!("{}/status", self.path());
        let node = self.node.clone();
        self.later(async move {
            let request = request("PATCH", &path, Some("application/strategic-merge-patch+json"), &patch);
            // The answer is the whole pod; only its metadata is read.
            let result = match request {
                Ok(request) => {
                    let _permit = node.requests.acquire().await;
                    node.client.request::<PartialObjectMeta<Pod>>(request).await.map(drop)
                }
                Err(error) => Err(error),
            };
            Done::Reported { status, result }
        });
    }

    /// The uid of the object that is told; none while a static pod has no mirror.
    fn object_uid(&self) -> Option<String> {
        match self.cell.object() {
            Object::Own => Some(self.subject.uid.clone()),
            Object::NoMirror => None,
            Object::Mirror(uid) => Some(uid),
        }
    }

    fn send_deletion(&mut self, uid: &str) {
        self.report.busy = true;
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": { "uid": uid },
        });
        let (path, node) = (self.path(), self.node.clone());
        self.later(async move {
            let result = match request("DELETE", &path, Some("application/json"), &options) {
                Ok(request) => {
                    let _permit = node.requests.acquire().await;
                    node.client.request::<Value>(request).await.map(drop)
                }
                Err(error) => Err(error),
            };
            Done::Deleted(result)
        });
    }

    fn path(&self) -> String {
        format!(
            "/api/v1/namespaces/{}/pods/{}",
            self.subject.namespace, self.subject.name
        )
    }

    pub(super) fn reported(&mut self, status: Box<PodStatus>, result: Result<(), kube::Error>, now: Timestamp) {
        self.report.busy = false;
        match result {
            Ok(()) => {
                self.report.told = Some(status);
                self.request_succeeded();
                self.back_off_pulls();
            }
            Err(error) => self.request_failed(&error, now),
        }
    }

    pub(super) fn deleted(&mut self, result: Result<(), kube::Error>, now: Timestamp) {
        self.report.busy = false;
        match result {
            Ok(()) => {
                self.report.deleted = true;
                self.request_succeeded();
            }
            Err(error) => self.request_failed(&error, now),
        }
    }

    fn request_succeeded(&mut self) {
        (self.report.failures, self.report.retry_at) = (0, None);
    }

    fn request_failed(&mut self, error: &kube::Error, now: Timestamp) {
        if is_about_another(error) && self.cell.object() == Object::Own {
            // The pod is gone, or another one has its name: the watch will say so.
            self.report.deleted = true;
            return;
        }
        let pause = RETRY_FIRST
            .saturating_mul(1 << self.report.failures.min(10))
            .min(RETRY_MAX);
        self.report.failures = self.report.failures.saturating_add(1);
        self.report.retry_at = Some(after(now, pause));
        tracing::warn!(namespace = %self.subject.namespace, pod = %self.subject.name, %error, "the API did not take a pod's status; trying again");
    }
}

/// Not found, or a conflict, which can only be about the uid: nothing else is a precondition.
fn is_about_another(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 || status.code == 409)
}

fn request(method: &str, path: &str, content: Option<&str>, body: &Value) -> Result<Request<Vec<u8>>, kube::Error> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(content) = content {
        request = request.header(header::CONTENT_TYPE, content);
    }
    let body = serde_json::to_vec(body).map_err(kube::Error::SerdeError)?;
    request.body(body).map_err(kube::Error::HttpError)
}
