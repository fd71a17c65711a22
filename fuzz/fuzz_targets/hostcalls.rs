//! Sequences of calls to the host: the first byte is the family, the rest the program of the guest `driver`.
#![no_main]

use std::cell::RefCell;

use coracle_generators::steps;
use coracle_generators::targets::Targets;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

thread_local! {
    static TARGETS: RefCell<Targets> = RefCell::new(Targets::new().expect("the machine runs guests"));
}

fuzz_target!(|bytes: &[u8]| {
    TARGETS.with_borrow_mut(|targets| targets.run("hostcalls", bytes).expect("what must hold does"));
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    steps::mutate(data, size, max_size, seed, fuzzer_mutate)
});
