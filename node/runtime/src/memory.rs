//! What a container's memory limit counts, and what happens at the limit.
//!
//! One account per container: linear memories, tables, the buffers of its sockets and whatever else the host holds for it are charged
//! to it. A guest that grows past the limit is ended on the spot, as the kernel would do; a socket that cannot be paid gets an error
//! instead, because another pod fills it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coracle_net::MemoryCharge;
use wasmtime::ResourceLimiter;

use crate::limits;

/// The guest wanted more memory than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("wanted {} more than the memory limit of {}", size(*.wanted_bytes), size(*.limit_bytes))]
pub(crate) struct OutOfMemory {
    pub(crate) limit_bytes: u64,
    pub(crate) wanted_bytes: u64,
}

fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 => format!("{} KiB", b >> 10),
        b => format!("{b} bytes"),
    }
}

/// The memory of one container.
#[derive(Debug)]
pub(crate) struct MemoryAccount {
    limit_bytes: AtomicU64,
    used_bytes: AtomicU64,
    sidecar: bool,
}

/// A limit below what is used already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a memory limit of {} is less than the {} that the container holds", size(*.limit_bytes), size(*.used_bytes))]
pub struct BelowUse {
    /// The limit that was wanted.
    pub limit_bytes: u64,
    /// What the container holds.
    pub used_bytes: u64,
}

impl MemoryAccount {
    pub(crate) fn new(limit_bytes: Option<u64>, sidecar: bool) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes: AtomicU64::new(limit_bytes.unwrap_or(u64::MAX)),
            used_bytes: AtomicU64::new(0),
            sidecar,
        })
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Whether nobody gave it a limit.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.limit_bytes.load(Ordering::Relaxed) == u64::MAX
    }

    /// Gives the container another limit, or none.
    pub(crate) fn resize(&self, limit_bytes: Option<u64>) -> Result<(), BelowUse> {
        let limit_bytes = limit_bytes.unwrap_or(u64::MAX);
        let used_bytes = self.used_bytes();
        if limit_bytes < used_bytes {
            return Err(BelowUse {
                limit_bytes,
                used_bytes,
            });
        }
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Pays, or says what was lacking.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), OutOfMemory> {
        let limit_bytes = self.limit_bytes.load(Ordering::Relaxed);
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit_bytes);
        self.used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map(drop)
            .map_err(|_| OutOfMemory {
                limit_bytes,
                wanted_bytes: bytes,
            })
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl MemoryCharge for MemoryAccount {
    fn charge(&self, bytes: usize) -> bool {
        self.take(bytes as u64).is_ok()
    }

    fn release(&self, bytes: usize) {
        self.give_back(bytes as u64);
    }

    fn is_sidecar(&self) -> bool {
        self.sidecar
    }
}

/// Bytes that the host holds for a container, paid as long as this is held.
pub(crate) struct Charge(Arc<MemoryAccount>, u64);

impl Charge {
    /// Takes them from the account.
    pub(crate) fn take(account: &Arc<MemoryAccount>, bytes: usize) -> Result<Self, OutOfMemory> {
        let bytes = bytes as u64;
        account.take(bytes)?;
        Ok(Self(account.clone(), bytes))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.0.give_back(self.1);
    }
}

/// Charges the growth of one store to its container's account, and gives all of it back with the store.
pub(crate) struct StoreMemory {
    account: Arc<MemoryAccount>,
    held_bytes: u64,
    /// The growth that the engine was allowed last, should it then fail to carry it out.
    last_bytes: u64,
}

impl StoreMemory {
    pub(crate) fn new(account: Arc<MemoryAccount>) -> Self {
        Self {
            account,
            held_bytes: 0,
            last_bytes: 0,
        }
    }

    fn grow(&mut self, bytes: usize) -> wasmtime::Result<bool> {
        let bytes = bytes as u64;
        self.account.take(bytes)?;
        self.held_bytes += bytes;
        self.last_bytes = bytes;
        Ok(true)
    }

    fn undo_last(&mut self) {
        let bytes = std::mem::take(&mut self.last_bytes);
        self.held_bytes -= bytes;
        self.account.give_back(bytes);
    }
}

impl Drop for StoreMemory {
    fn drop(&mut self) {
        self.account.give_back(self.held_bytes);
    }
}

impl ResourceLimiter for StoreMemory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            self.last_bytes = 0;
            return Ok(false); // the module's own maximum: the guest sees -1, as the standard says
        }
        self.grow(desired.saturating_sub(current))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo_last();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > limits::TABLE_ELEMENTS || maximum.is_some_and(|maximum| desired > maximum) {
            self.last_bytes = 0;
            return Ok(false);
        }
        self.grow(desired.saturating_sub(current) * limits::TABLE_ELEMENT_BYTES)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo_last();
        Ok(())
    }

    fn instances(&self) -> usize {
        limits::INSTANCES
    }

    fn memories(&self) -> usize {
        limits::MEMORIES
    }

    fn tables(&self) -> usize {
        limits::TABLES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memories_tables_and_sockets_share_one_limit() {
        let account = MemoryAccount::new(Some(1000), false);
        let mut store = StoreMemory::new(account.clone());
        assert!(store.memory_growing(0, 400, None).unwrap());
        assert!(store.table_growing(0, 50, None).unwrap());
        assert!(account.charge(200));
        assert!(!account.charge(1));
        let error = store.memory_growing(400, 401, None).unwrap_err();
        assert_eq!(error.downcast_ref::<OutOfMemory>().unwrap().limit_bytes, 1000);
        drop(store);
        assert_eq!(account.used_bytes(), 200);
    }

    #[test]
    fn growth_that_the_engine_could_not_carry_out_costs_nothing() {
        let account = MemoryAccount::new(Some(1000), false);
        let mut store = StoreMemory::new(account.clone());
        store.memory_growing(0, 400, None).unwrap();
        store
            .memory_grow_failed(wasmtime::Error::msg("no address space"))
            .unwrap();
        assert_eq!(account.used_bytes(), 0);
        assert!(!store.memory_growing(0, 900, Some(800)).unwrap());
        store
            .memory_grow_failed(wasmtime::Error::msg("over the maximum"))
            .unwrap();
        assert_eq!(account.used_bytes(), 0);
    }

    proptest! {
        #[test]
        fn what_is_used_never_passes_the_limit_and_returns_to_zero(
            limit in 0u64..5000,
            steps in prop::collection::vec((0usize..2, 0usize..800), 0..60),
        ) {
            let account = MemoryAccount::new(Some(limit), false);
            let mut stores = [StoreMemory::new(account.clone()), StoreMemory::new(account.clone())];
            for (which, bytes) in steps {
                let _ = stores[which].memory_growing(0, bytes, None);
                prop_assert!(account.used_bytes() <= limit);
            }
            drop(stores);
            prop_assert_eq!(account.used_bytes(), 0);
        }
    }
}
