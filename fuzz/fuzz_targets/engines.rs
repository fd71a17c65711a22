//! One generated program under both configurations of the engine, which it cannot tell apart.
#![no_main]

use std::cell::RefCell;

use coracle_generators::{Sandbox, engines};
use libfuzzer_sys::fuzz_target;

/// Runs after which the sandbox and its directory of compiled code are made anew.
const RUNS: u32 = 250;

thread_local! {
    static STATE: RefCell<(u32, Sandbox)> = RefCell::new((0, Sandbox::new().expect("the machine runs guests")));
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(program) = engines::program(bytes) else { return };
    STATE.with_borrow_mut(|(runs, sandbox)| {
        *runs += 1;
        if *runs % RUNS == 0 {
            *sandbox = Sandbox::new().expect("the machine runs guests");
        }
        engines::compare(sandbox, &program).expect("what must hold does");
    });
});
