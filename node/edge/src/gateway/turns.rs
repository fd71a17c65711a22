//! Turns for shares of requests, each spread evenly. Pure but for the count.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts requests. What is counted goes round a circle by strides of one length.
#[derive(Debug, Default)]
pub struct Turns(AtomicU64);

/// A stride as a part of the circle, in 2^-64.
#[derive(Debug, Clone, Copy)]
pub struct Stride(u64);

/// For the shares of backends: the golden ratio, whose strides leave no part of the circle out for long.
pub const BACKENDS: Stride = Stride(0x9e37_79b9_7f4a_7c15);

/// For the shares of mirrors: the square root of two, which is as even. With the stride of the backends a mirror of one half
/// would get all requests of one backend of two and none of the other's.
pub const MIRRORS: Stride = Stride(0x6a09_e667_f3bc_c909);

impl Turns {
    /// The place of the next turn in `0..all`; the first is 0.
    pub fn next(&self, stride: Stride, all: u64) -> u64 {
        let turn = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(stride.0);
        // The upper half of the product.
        u64::try_from((u128::from(turn) * u128::from(all)) >> 64).unwrap_or_default()
    }
}
