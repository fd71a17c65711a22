//! What the containers of one pod share of the host's files: handles, and turns on the threads that work on files.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// One pod's part of the handles and threads that all pods share.
#[derive(Debug)]
pub struct PodFiles {
    handles: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Default for PodFiles {
    fn default() -> Self {
        Self {
            handles: Arc::new(Semaphore::new(limits::OPEN_FILES)),
            turns: Arc::new(Semaphore::new(limits::FILE_OPERATIONS)),
        }
    }
}

impl PodFiles {
    /// Handles that the pod has open.
    pub fn open(&self) -> usize {
        limits::OPEN_FILES.saturating_sub(self.handles.available_permits())
    }

    /// A place for one more handle, if there is one.
    pub(crate) fn handle(&self) -> Option<OwnedSemaphorePermit> {
        self.handles.clone().try_acquire_owned().ok()
    }

    /// A turn, if there is one now.
    pub(crate) fn turn_now(&self) -> Option<Turn> {
        self.turns.clone().try_acquire_owned().ok().map(Turn)
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self) -> Turn {
        // Nobody closes it.
        match self.turns.clone().acquire_owned().await {
            Ok(turn) => Turn(turn),
            Err(_) => std::future::pending().await,
        }
    }
}

/// The right to occupy a thread.
pub(crate) struct Turn(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit);
