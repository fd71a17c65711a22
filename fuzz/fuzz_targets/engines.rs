//! One generated program under both configurations of the engine, which it cannot tell apart.
#![no_main]

use std::cell::RefCell;

use coracle_generators::targets::Targets;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static TARGETS: RefCell<Targets> = RefCell::new(Targets::new().expect("the machine runs guests"));
}

fuzz_target!(|bytes: &[u8]| {
    TARGETS.with_borrow_mut(|targets| targets.run("engines", bytes).expect("what must hold does"));
});
