//! A run that can be repeated: what a program learns of time and chance comes from a number.
//!
//! With fuel as the measure of its work, the same program then does the same up to the same instruction, as long as nobody else
//! talks to it. Clocks do not stand still, because programs wait for a time to come; they move when somebody looks, which the
//! program itself decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

/// When the wall clock begins: the start of the year 2026, in seconds since 1970.
const BEGINNING: u64 = 1_767_225_600;

/// How far a clock moves at each look.
const STEP: Duration = Duration::from_micros(1);

/// Both clocks of a program.
#[derive(Clone, Default)]
struct Looks(Arc<AtomicU64>);

impl Looks {
    fn nanos(&self) -> u64 {
        let step = STEP.as_nanos() as u64;
        self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step)
    }
}

impl HostMonotonicClock for Looks {
    fn resolution(&self) -> u64 {
        STEP.as_nanos() as u64
    }

    fn now(&self) -> u64 {
        self.nanos()
    }
}

impl HostWallClock for Looks {
    fn resolution(&self) -> Duration {
        STEP
    }

    fn now(&self) -> Duration {
        Duration::from_secs(BEGINNING) + Duration::from_nanos(self.nanos())
    }
}

/// Gives a program clocks and randomness that depend on nothing but `seed`.
pub(crate) fn fix(wasi: &mut WasiCtxBuilder, seed: u64) {
    let looks = Looks::default();
    wasi.monotonic_clock(looks.clone())
        .wall_clock(looks)
        .secure_random(StdRng::seed_from_u64(seed))
        .insecure_random(StdRng::seed_from_u64(!seed))
        .insecure_random_seed(u128::from(seed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_move_when_somebody_looks_and_only_then() {
        let looks = Looks::default();
        let wall = HostWallClock::now(&looks);
        assert_eq!(wall, Duration::from_secs(BEGINNING) + STEP);
        assert_eq!(HostMonotonicClock::now(&looks.clone()), 2 * STEP.as_nanos() as u64);
        assert_eq!(HostWallClock::now(&looks), wall + 2 * STEP);
    }
}
