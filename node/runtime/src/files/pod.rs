//! What the containers of one pod share of the host's files: handles, and turns to work on files.

use std::sync::{Arc, LazyLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// What all pods of this process have open together: half of what the system lets the process have. The other half is for the API's
/// connections, the store and the logs, which must go on whatever pods do.
static ALL: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let half = process_handles().map_or(Semaphore::MAX_PERMITS, |handles| handles / 2);
    Arc::new(Semaphore::new(half.min(Semaphore::MAX_PERMITS)))
});

/// Operations of all pods together: as many threads may be beside those that run guests.
static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(limits::BLOCKING_THREADS)));

/// How many handles this process may have open; none where the system has no such limit.
fn process_handles() -> Option<usize> {
    #[cfg(unix)]
    {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current.map(|most| usize::try_from(most).unwrap_or(usize::MAX))
    }
    #[cfg(not(unix))]
    None
}

/// One pod's part of the handles and threads that all pods share.
#[derive(Debug)]
pub struct PodFiles {
    handles: Arc<Semaphore>,
    all: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Default for PodFiles {
    fn default() -> Self {
        Self::of(ALL.clone())
    }
}

impl PodFiles {
    pub(super) fn of(all: Arc<Semaphore>) -> Self {
        Self {
            handles: Arc::new(Semaphore::new(limits::OPEN_FILES)),
            all,
            turns: Arc::new(Semaphore::new(limits::FILE_OPERATIONS)),
        }
    }

    /// Handles that the pod has open.
    pub fn open(&self) -> usize {
        limits::OPEN_FILES.saturating_sub(self.handles.available_permits())
    }

    /// A place for one more handle, if the pod, and all pods together, have one.
    pub(crate) fn handle(&self) -> Option<Place> {
        let own = self.handles.clone().try_acquire_owned().ok()?;
        let of_all = self.all.clone().try_acquire_owned().ok()?;
        Some(Place([own, of_all]))
    }

    /// A place for the handle of a mount's directory, which all instances of a container share.
    pub(crate) fn root(&self) -> std::io::Result<Root> {
        match self.all.clone().try_acquire_owned() {
            Ok(place) => Ok(Root(place)),
            Err(_) => Err(std::io::Error::other(
                "the pods of this process have all the files open that they may; raise its limit (ulimit -n)",
            )),
        }
    }

    /// A turn, if there is one now.
    pub(crate) fn turn_now(&self) -> Option<Turn> {
        let own = self.turns.clone().try_acquire_owned().ok()?;
        let of_all = TURNS.clone().try_acquire_owned().ok()?;
        Some(Turn([own, of_all]))
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self) -> Turn {
        let own = acquire(&self.turns).await;
        Turn([own, acquire(&TURNS).await])
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    match semaphore.clone().acquire_owned().await {
        Ok(permit) => permit,
        // Nobody closes it.
        Err(_) => std::future::pending().await,
    }
}

/// The right to occupy a thread.
pub(crate) struct Turn(#[expect(dead_code, reason = "it is held")] [OwnedSemaphorePermit; 2]);

/// The right to have the directory of a mount open.
pub(crate) struct Root(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit);

/// The right to have one handle open.
pub(crate) struct Place(#[expect(dead_code, reason = "it is held")] [OwnedSemaphorePermit; 2]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_leave_the_process_its_handles() {
        let all = Arc::new(Semaphore::new(limits::OPEN_FILES + 1));
        let [greedy, modest] = [(); 2].map(|()| PodFiles::of(all.clone()));
        let held: Vec<_> = std::iter::from_fn(|| greedy.handle()).collect();
        assert_eq!(held.len(), limits::OPEN_FILES);
        let one = modest.handle().unwrap();
        assert!(modest.handle().is_none() && greedy.handle().is_none());
        // What could not be had of all is not missing of one's own.
        assert_eq!((modest.open(), greedy.open()), (1, limits::OPEN_FILES));
        drop((held, one));
        assert!(modest.handle().is_some());
        assert_eq!(all.available_permits(), limits::OPEN_FILES + 1);
    }
}
