//! Generated guests, a few seconds of them; the fuzz targets go on from here.

// The parts that the tests share lie outside test functions, where the lints do not look for tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod calls;
mod guests;
mod seeds;
mod specs;

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use coracle_generators::Sandbox;

/// One for all tests, and one test at a time: it looks at what the whole process holds.
fn sandbox() -> MutexGuard<'static, Sandbox> {
    static SANDBOX: LazyLock<Mutex<Sandbox>> = LazyLock::new(|| Mutex::new(Sandbox::new().unwrap()));
    SANDBOX.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that a number makes, the same ones each time: SplitMix64.
fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// How many inputs each test tries; more with the variable `CORACLE_GENERATED`.
fn count(usual: u64) -> u64 {
    let more = std::env::var("CORACLE_GENERATED")
        .ok()
        .and_then(|text| text.parse().ok());
    more.unwrap_or(usual)
}
