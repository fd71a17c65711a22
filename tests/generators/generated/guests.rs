//! Generated modules: under the full host, and under both configurations of the engine.

use coracle_generators::engines;
use coracle_generators::modules::Modules;
use coracle_runtime::Metering;

use crate::{bytes, count, sandbox};

#[test]
fn modules_that_call_with_nonsense_leave_nothing_behind() {
    let (mut sandbox, modules) = (sandbox(), Modules::new().unwrap());
    let mut ran = 0;
    for seed in 0..count(8) {
        let bytes = bytes(seed, 4000);
        for wasm in [modules.component(&bytes), modules.preview1(&bytes)] {
            let Ok(wasm) = wasm else { continue };
            let module = match sandbox.load(&wasm, Metering::Fuel) {
                Ok(module) => module,
                Err(error) => panic!("{seed}: {error}"),
            };
            sandbox.run(module, &["guest"]).unwrap_or_else(|violation| panic!("{seed}: {violation}"));
            ran += 1;
        }
    }
    assert!(ran > 0, "no bytes made a module");
}

#[test]
fn a_program_cannot_tell_how_it_is_metered() {
    let mut sandbox = sandbox();
    let mut compared = 0;
    for seed in 0..count(16) {
        let Ok(program) = engines::program(&bytes(seed, 3000)) else { continue };
        let run = engines::compare(&mut sandbox, &program);
        compared += u32::from(run.unwrap_or_else(|violation| panic!("{seed}: {violation}")).is_some());
    }
    assert!(compared > 0, "nothing was compared");
}
