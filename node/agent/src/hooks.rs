//! Lifecycle hooks: what a pod wants done right after a container started and before it is asked to end.
//!
//! A hook that this node cannot run fails with a text that says so; it is never skipped silently.

use crate::probe::{self, Answer, Place};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Probe};
use std::time::Duration;

/// Runs a hook to its end.
///
/// # Errors
/// When it failed, with a text for the event.
pub async fn run(at: Place, container: Container, hook: LifecycleHandler, timeout: Duration) -> Result<(), String> {
    if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds).min(timeout)).await;
        return Ok(());
    }
    let action = Probe {
        exec: hook.exec,
        http_get: hook.http_get,
        tcp_socket: hook.tcp_socket,
        ..Probe::default()
    };
    match probe::ask(at, container, action, timeout).await {
        Answer::Good => Ok(()),
        Answer::Bad(why) => Err(why),
    }
}
