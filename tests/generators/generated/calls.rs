//! Sequences of host calls, by family, and those that once went wrong.

use coracle_generators::{FAMILIES, peak_bytes, sandbox::MEMORY_BYTES};
use coracle_runtime::Metering;

use crate::{bytes, count, sandbox};

/// How much more the host may hold at its peak than a guest may: its own parts of what the guest did.
const BESIDE_BYTES: u64 = 192 << 20;

#[test]
fn whatever_is_called_the_host_has_everything_back() {
    let mut sandbox = sandbox();
    let before = peak_bytes();
    for family in FAMILIES {
        let (mut completed, mut good) = (0, 0);
        for seed in 0..count(12) {
            let program = bytes(seed, 100 + 60 * (seed as usize % 40));
            let metering = if seed % 3 < 2 { Metering::Fuel } else { Metering::Time };
            let run = sandbox.drive(family, metering, &program).unwrap_or_else(|violation| {
                let hex: String = program.iter().map(|byte| format!("{byte:02x}")).collect();
                panic!("{family} {seed} by {metering:?}: {violation}\ndriver {family} bytes {hex}")
            });
            completed += u64::from(run.exit.code == 0);
            let text = String::from_utf8_lossy(&run.output).into_owned();
            let answers = text
                .rsplit_once(" steps, ")
                .and_then(|(_, rest)| rest.split(' ').next());
            good += answers
                .and_then(|answers| answers.parse::<u64>().ok())
                .unwrap_or_default();
        }
        // A driver that the host ended at its first call would have shown nothing.
        assert!(
            completed > 0 && good > 0,
            "{family}: {completed} completed, {good} good answers"
        );
    }
    if let (Some(before), Some(after)) = (before, peak_bytes()) {
        let more = after.saturating_sub(before);
        assert!(more < MEMORY_BYTES + BESIDE_BYTES, "the host took {more} bytes");
    }
}

#[test]
fn the_same_program_makes_the_same_calls() {
    let mut sandbox = sandbox();
    for family in ["io", "files", "processes"] {
        let program = bytes(3, 400);
        let runs = [0, 1].map(|_| sandbox.drive(family, Metering::Fuel, &program).unwrap());
        assert_eq!(runs[0], runs[1], "{family}");
    }
}
