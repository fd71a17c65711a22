//! What a socket costs: a place in its pod's quota, and memory on an account that the runtime may supply.
//!
//! Every socket that a guest can make holds a [`SocketSlot`]; the slot is given back when the last handle of that socket
//! drops. Buffers are charged to the *receiver*, because only the receiver can make them shrink.

use std::fmt;
use std::sync::Arc;

use crate::NetError;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Sockets that a pod may hold at once. Linux gives a process 1,024 descriptors unless told otherwise, and programs are
/// written to that; it also stays below the 4,096 host objects at which the sandbox ends a guest, so the guest sees an
/// error it can handle first.
pub const MAX_SOCKETS_PER_POD: usize = 1024;

/// Memory charged for a socket itself: its tables, and the first [`crate::PIPE_FLOOR`] bytes of its receive buffer.
pub const SOCKET_BYTES: usize = 8 * 1024;

/// An account for host memory that a guest makes the network hold.
///
/// Called under short locks: must not block and must not call back into the network.
pub trait MemoryCharge: Send + Sync {
    /// Takes `bytes` from the budget. False means that the budget lacks them and nothing was taken.
    fn charge(&self, bytes: usize) -> bool;
    /// Gives back what an earlier `charge` took.
    fn release(&self, bytes: usize);
    /// Whether its sockets reach others directly in a pod whose traffic goes through its sidecar, as the sidecar's own must.
    fn is_sidecar(&self) -> bool {
        false
    }
}

/// An account, or none where the host itself is the receiver.
pub(crate) type Account = Option<Arc<dyn MemoryCharge>>;

/// A socket's place in its pod's quota, with the account that pays for its buffers.
#[derive(Clone)]
pub struct SocketSlot(Arc<Slot>);

struct Slot {
    quota: Arc<SocketQuota>,
    account: Account,
}

impl SocketSlot {
    pub(crate) fn account(&self) -> &Account {
        &self.0.account
    }

    pub(crate) fn is_sidecar(&self) -> bool {
        self.0.account.as_ref().is_some_and(|account| account.is_sidecar())
    }

    /// A new slot on the same account, for a connection that a listener accepted.
    pub(crate) fn sibling(&self) -> Result<Self, NetError> {
        self.0.quota.claim(self.0.account.clone())
    }
}

impl fmt::Debug for SocketSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketSlot").finish_non_exhaustive()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.quota.used.fetch_sub(1, Ordering::AcqRel);
        if let Some(account) = &self.account {
            account.release(SOCKET_BYTES);
        }
    }
}

/// The socket quota of one pod.
#[derive(Debug)]
pub(crate) struct SocketQuota {
    used: AtomicUsize,
    limit: usize,
}

impl SocketQuota {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit,
        })
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    pub(crate) fn claim(self: &Arc<Self>, account: Account) -> Result<SocketSlot, NetError> {
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                (used < self.limit).then_some(used + 1)
            })
            .map_err(|_| NetError::TooManySockets)?;
        if account.as_ref().is_some_and(|account| !account.charge(SOCKET_BYTES)) {
            self.used.fetch_sub(1, Ordering::AcqRel);
            return Err(NetError::OutOfMemory);
        }
        Ok(SocketSlot(Arc::new(Slot {
            quota: self.clone(),
            account,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    struct Purse(Mutex<usize>);

    impl MemoryCharge for Purse {
        fn charge(&self, bytes: usize) -> bool {
            let mut left = self.0.lock();
            if *left < bytes {
                return false;
            }
            *left -= bytes;
            true
        }
        fn release(&self, bytes: usize) {
            *self.0.lock() += bytes;
        }
    }

    #[test]
    fn the_quota_refuses_one_too_many_and_takes_slots_back() {
        let quota = SocketQuota::new(2);
        let first = quota.claim(None).unwrap();
        let _second = first.sibling().unwrap();
        assert_eq!(quota.claim(None).unwrap_err(), NetError::TooManySockets);
        drop(first);
        assert_eq!(quota.used(), 1);
        quota.claim(None).unwrap();
    }

    #[test]
    fn a_socket_that_its_account_cannot_pay_takes_no_place() {
        let purse = Arc::new(Purse(Mutex::new(SOCKET_BYTES)));
        let quota = SocketQuota::new(8);
        let slot = quota.claim(Some(purse.clone())).unwrap();
        assert_eq!(slot.sibling().unwrap_err(), NetError::OutOfMemory);
        assert_eq!(quota.used(), 1);
        drop(slot);
        assert_eq!(*purse.0.lock(), SOCKET_BYTES);
    }
}
