//! What happens when the machine runs out of memory: one container ends, as OOMKilled, before the system ends this process and
//! every pod with it.
//!
//! A container without a memory limit may take what there is, as elsewhere; and limits together may promise more than the machine
//! has. So somebody looks at what is left. Who has no limit goes first, and of those who holds most, which is the order in which
//! the kernel would choose among pods of their own.

use std::fs;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::container::Shared;

/// How often somebody looks. A guest writes a gigabyte of fresh memory in a second, so at most a tenth of that is missed.
const PERIOD: Duration = Duration::from_millis(100);

/// How long the memory of one that was ended takes to come back, at most, before the next is chosen.
const RELIEF: Duration = Duration::from_millis(500);

/// The part of the machine's memory that is kept for the API, the node and the rest of the machine: a twentieth.
const KEPT_PART: u64 = 20;

/// Who holds less than this is not the cause.
const BYSTANDER_BYTES: u64 = 64 << 20;

/// All containers of a runtime.
#[derive(Default)]
pub(crate) struct Holders(Mutex<Vec<Weak<Shared>>>);

impl Holders {
    pub(crate) fn add(&self, shared: &Arc<Shared>) {
        let mut all = self.0.lock();
        if all.len() == all.capacity() {
            all.retain(|holder| holder.strong_count() > 0);
        }
        all.push(Arc::downgrade(shared));
    }

    /// Ends the one that is to blame, and says whether there was one.
    fn relieve(&self, free_bytes: u64) -> bool {
        let all: Vec<_> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        let worst = all
            .iter()
            .filter(|shared| shared.account.used_bytes() >= BYSTANDER_BYTES && !shared.is_ending())
            .max_by_key(|shared| (shared.account.is_unlimited(), shared.account.used_bytes()));
        let Some(worst) = worst else { return false };
        let held_bytes = worst.account.used_bytes();
        tracing::warn!(
            container = worst.spec.name,
            pod = worst.spec.net.identity().name,
            held_bytes,
            free_bytes,
            "the machine has no memory left; the container that holds most of it is ended"
        );
        worst.starve();
        true
    }
}

/// Looks at the machine as long as there is somebody to end. `kept_bytes` is what must stay free; None: a part of the machine's.
pub(crate) fn watch(holders: &Arc<Holders>, kept_bytes: Option<u64>) -> std::io::Result<()> {
    let Some(machine) = Memory::look() else {
        // A system that does not say what it has left.
        return Ok(());
    };
    let kept_bytes = kept_bytes.unwrap_or(machine.total_bytes / KEPT_PART);
    let holders = Arc::downgrade(holders);
    thread::Builder::new().name("coracle-memory".into()).spawn(move || {
        loop {
            thread::sleep(PERIOD);
            let Some(holders) = holders.upgrade() else { return };
            let Some(memory) = Memory::look() else { return };
            if memory.free_bytes < kept_bytes && holders.relieve(memory.free_bytes) {
                thread::sleep(RELIEF);
            }
        }
    })?;
    Ok(())
}

/// What this process may have: the machine's, or that of its control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    total_bytes: u64,
    free_bytes: u64,
}

impl Memory {
    fn look() -> Option<Self> {
        let machine = Self::of_machine(&fs::read_to_string("/proc/meminfo").ok()?)?;
        let group = || {
            let group = fs::read_to_string("/proc/self/cgroup").ok()?;
            let dir = format!(
                "/sys/fs/cgroup{}",
                group.lines().find_map(|line| line.strip_prefix("0::"))?
            );
            let read = |file: &str| fs::read_to_string(format!("{dir}/{file}")).ok();
            Self::of_group(&read("memory.max")?, &read("memory.current")?, &read("memory.stat")?)
        };
        Some(match group() {
            Some(group) if group.free_bytes < machine.free_bytes => group,
            _ => machine,
        })
    }

    fn of_machine(meminfo: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kib * 1024)
        };
        Some(Self {
            total_bytes: bytes("MemTotal:")?,
            free_bytes: bytes("MemAvailable:")?,
        })
    }

    /// A group's limit and use. What it holds of files is given back when it is needed.
    fn of_group(max: &str, current: &str, stat: &str) -> Option<Self> {
        let total_bytes = max.trim().parse().ok()?;
        let used: u64 = current.trim().parse().ok()?;
        let of_files = stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?;
        let used = used.saturating_sub(of_files.trim().parse().ok()?);
        Some(Self {
            total_bytes,
            free_bytes: u64::saturating_sub(total_bytes, used),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_read_as_linux_tells_it() {
        let machine = "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:  4096 kB\n";
        let memory = |total_bytes, free_bytes| {
            Some(Memory {
                total_bytes,
                free_bytes,
            })
        };
        assert_eq!(Memory::of_machine(machine), memory(16 << 20, 4 << 20));
        assert_eq!(Memory::of_machine("MemTotal: 1 kB\n"), None);
        let stat = "anon 1\ninactive_file 1048576\n";
        assert_eq!(
            Memory::of_group("4194304\n", "3145728\n", stat),
            memory(4 << 20, 2 << 20)
        );
        // A group without a limit is as large as the machine.
        assert_eq!(Memory::of_group("max\n", "3145728\n", stat), None);
    }
}
