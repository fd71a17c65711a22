//! Chance that is the same for the same seed: what the system is asked for at random is drawn from the seed.
//!
//! Hash maps, uids, names and draws all begin with a few bytes that libc's `getrandom` gives. A function of that name in
//! the program goes before that of libc, so a seed's process repeats itself. Nothing of the product knows of it.

use std::sync::atomic::{AtomicU64, Ordering};

static STATE: AtomicU64 = AtomicU64::new(0);

/// From here on chance follows the seed.
pub fn follow(seed: u64) {
    STATE.store(seed, Ordering::Relaxed);
}

/// SplitMix64, which makes a good sequence of any seed.
fn next() -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut word = STATE.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// libc's function: fills `length` bytes at `buffer`.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller gives a buffer of that length to be written to, as libc demands.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    for chunk in buffer.chunks_mut(8) {
        chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]);
    }
    length as isize
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    /// In a thread of its own, because hash maps keep what they drew for each thread.
    fn drawn(seed: u64) -> (u64, u64) {
        super::follow(seed);
        std::thread::spawn(|| (RandomState::new().hash_one(1), rand::random()))
            .join()
            .unwrap()
    }

    #[test]
    #[cfg_attr(not(target_os = "linux"), ignore = "chance is the system's")]
    fn the_same_seed_draws_the_same() {
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }
}
