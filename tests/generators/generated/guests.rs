//! Generated modules: under the full host, and under both configurations of the engine.

use coracle_generators::engines;
use coracle_generators::modules::Modules;
use coracle_runtime::Metering;

use crate::{bytes, count, sandbox};

#[test]
fn modules_that_call_with_nonsense_leave_nothing_behind() {
    let (mut sandbox, modules) = (sandbox(), Modules::new().unwrap());
    let mut ran = 0;
    for seed in 0..count(5) {
        let bytes = bytes(seed, 4000);
        for wasm in [modules.component(&bytes), modules.preview1(&bytes)] {
            let Ok(wasm) = wasm else { continue };
            let module = match sandbox.load(&wasm, Metering::Fuel) {
                Ok(module) => module,
                Err(error) => panic!("{seed}: {error}"),
            };
            sandbox
                .run(module, &["guest"])
                .unwrap_or_else(|violation| panic!("{seed}: {violation}"));
            ran += 1;
        }
    }
    assert!(ran > 0, "no bytes made a module");
}

/// What is compared is what a program does: its results and its memory, four times.
#[test]
fn the_frame_shows_what_a_program_does() {
    let mut sandbox = sandbox();
    let program = r#"(module
        (memory (export "m") 1)
        (func (export "a") (param i32 i64) (result i64)
            (i32.store8 (i32.const 1024) (local.get 0))
            (i64.add (i64.extend_i32_u (local.get 0)) (local.get 1)))
        (func (export "b") (param f64 f32) (result f64) local.get 0)
        (func (export "c") (param i32) (result i32) local.get 0))"#;
    let program = engines::framed(&wat::parse_str(program).unwrap()).unwrap();
    let module = sandbox.load(&program, Metering::Time).unwrap();
    let run = sandbox.run(module, &["program"]).unwrap();
    assert_eq!(
        (run.exit.code, run.output.len()),
        (0, 4 * (24 + 4096)),
        "{:?}",
        run.exit
    );
    assert_eq!(run.output[..8], (-2i64).to_le_bytes());
    assert_eq!(run.output[24], 7);
    assert!(engines::compare(&mut sandbox, &program).unwrap().is_some());
}

#[test]
fn a_program_cannot_tell_how_it_is_metered() {
    let mut sandbox = sandbox();
    let mut compared = 0;
    for seed in 0..count(8) {
        let Ok(program) = engines::program(&bytes(seed, 3000)) else {
            continue;
        };
        let run = engines::compare(&mut sandbox, &program);
        compared += u32::from(run.unwrap_or_else(|violation| panic!("{seed}: {violation}")).is_some());
    }
    assert!(compared > 0, "nothing was compared");
}
