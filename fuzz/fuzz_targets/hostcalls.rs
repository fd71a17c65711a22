//! Sequences of calls to the host: the first byte is the family, the rest the program of the guest `driver`.
#![no_main]

use std::cell::RefCell;

use coracle_generators::{FAMILIES, Sandbox};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static SANDBOX: RefCell<Sandbox> = RefCell::new(Sandbox::new().expect("the machine runs guests"));
}

fuzz_target!(|bytes: &[u8]| {
    let Some((family, program)) = bytes.split_first() else {
        return;
    };
    let family = FAMILIES[usize::from(*family) % FAMILIES.len()];
    SANDBOX.with_borrow_mut(|sandbox| sandbox.drive(family, program).expect("what must hold does"));
});
