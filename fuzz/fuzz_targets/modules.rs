//! Generated guests that import what the host offers: components, and modules of WASI 0.1.
#![no_main]

use std::cell::RefCell;

use coracle_generators::{Sandbox, modules::Modules};
use coracle_runtime::Metering;
use libfuzzer_sys::fuzz_target;

/// Runs after which the sandbox and its directory of compiled code are made anew.
const RUNS: u32 = 500;

thread_local! {
    static STATE: RefCell<(u32, Sandbox, Modules)> = RefCell::new((
        0,
        Sandbox::new().expect("the machine runs guests"),
        Modules::new().expect("the driver is a component"),
    ));
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    STATE.with_borrow_mut(|(runs, sandbox, modules)| {
        *runs += 1;
        if *runs % RUNS == 0 {
            *sandbox = Sandbox::new().expect("the machine runs guests");
        }
        let wasm = match kind % 2 {
            0 => modules.component(bytes),
            _ => modules.preview1(bytes),
        };
        let Ok(wasm) = wasm else { return };
        if let Ok(module) = sandbox.load(&wasm, Metering::Fuel) {
            sandbox.run(module, &["guest"]).expect("what must hold does");
        }
    });
});
