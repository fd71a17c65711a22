//! How a command that keeps running ends: told once it stops in order, told again it stops at once.

use std::future::Future;

use anyhow::bail;
use tokio_util::sync::CancellationToken;

use crate::say::say;

/// Waits until the process is told to stop, and says that it will.
///
/// # Errors
/// When signals cannot be awaited.
pub async fn asked() -> anyhow::Result<()> {
    told().await?;
    say("stopping; Ctrl-C again stops at once");
    Ok(())
}

/// Waits for what stops in order, or until the user asks again. What was acknowledged is on disk either way.
///
/// # Errors
/// When signals cannot be awaited, or the user asked again.
pub async fn stop<T>(stopping: impl Future<Output = T>) -> anyhow::Result<()> {
    tokio::select! {
        _ = stopping => Ok(()),
        again = told() => again.and_then(|()| bail!(AT_ONCE)),
    }
}

/// Runs `work` until it ends; `shutdown` tells it when it is to.
///
/// # Errors
/// What the work ends with; when signals cannot be awaited, or the user asked again.
pub async fn run_until_told(
    shutdown: &CancellationToken,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let twice = async {
        asked().await?;
        shutdown.cancel();
        told().await?;
        bail!(AT_ONCE)
    };
    tokio::select! {
        ended = work => ended,
        ended = twice => ended,
    }
}

const AT_ONCE: &str = "stopped at once";

/// Ends at Ctrl-C, or when the process is asked to terminate.
///
/// # Errors
/// When signals cannot be awaited.
#[cfg(unix)]
pub async fn told() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Ends at Ctrl-C.
///
/// # Errors
/// When signals cannot be awaited.
#[cfg(not(unix))]
pub async fn told() -> anyhow::Result<()> {
    tokio::signal::ctrl_c().await?;
    Ok(())
}
