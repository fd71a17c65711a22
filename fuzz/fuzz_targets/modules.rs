//! Generated guests that import what the host offers: components, and modules of WASI 0.1.
#![no_main]

use std::cell::RefCell;

use coracle_generators::targets::Targets;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static TARGETS: RefCell<Targets> = RefCell::new(Targets::new().expect("the machine runs guests"));
}

fuzz_target!(|bytes: &[u8]| {
    TARGETS.with_borrow_mut(|targets| targets.run("modules", bytes).expect("what must hold does"));
});
