//! How much of the machine the node offers.
//!
//! The number of pods is bounded by what the kernel lets one process map, not by a convention: an idle guest takes seven memory
//! areas, so the limit of areas divided by eight leaves room for the rest of the process.

use crate::fields::Capacity;
use std::fs;

/// Where the system does not say how many memory areas a process may have, it has no such limit worth naming.
const PODS_WITHOUT_LIMIT: u64 = 10_000;
/// Memory areas of one pod.
const AREAS_PER_POD: u64 = 8;
/// Offered when the system does not say how much memory there is.
const MEMORY_UNKNOWN_BYTES: u64 = 4 << 30;

/// Looks at the machine. Which disk its pods have is for others to say.
pub fn detect() -> Capacity {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Capacity {
        cpu_milli: cores as u64 * 1000,
        memory_bytes: memory_bytes(&read("/proc/meminfo")).unwrap_or(MEMORY_UNKNOWN_BYTES),
        disk_bytes: None,
        pods: pods(&read("/proc/sys/vm/max_map_count")),
    }
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn pods(max_map_count: &str) -> u64 {
    max_map_count
        .trim()
        .parse::<u64>()
        .map_or(PODS_WITHOUT_LIMIT, |areas| (areas / AREAS_PER_POD).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_says() {
        assert_eq!(
            memory_bytes("MemTotal:       16384 kB\nMemFree: 1 kB\n"),
            Some(16 << 20)
        );
        assert_eq!(memory_bytes(""), None);
        assert_eq!(pods("65530\n"), 8191);
        assert_eq!(pods(""), PODS_WITHOUT_LIMIT);
        assert!(detect().memory_bytes > 0);
    }
}
