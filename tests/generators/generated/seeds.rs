//! The seeds of the fuzz targets, among them what fuzzing found once. With the variable `CORACLE_CORPUS`, the corpus that lies in
//! that directory too: that is how its coverage is measured.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_generators::specs;
use coracle_generators::targets::Targets;

/// The inputs of a target.
fn inputs(target: &str) -> Vec<PathBuf> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let corpus = std::env::var_os("CORACLE_CORPUS").map(PathBuf::from);
    let directories = [Some(seeds), corpus].into_iter().flatten();
    let mut inputs: Vec<PathBuf> = directories
        .filter_map(|directory| fs::read_dir(directory.join(target)).ok())
        .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{target} has no seeds");
    inputs
}

#[test]
fn what_must_hold_does_for_every_seed() {
    // In the place of the sandbox that the other tests share: nobody else may run meanwhile.
    let _alone = crate::sandbox();
    let mut targets = Targets::new().unwrap();
    for target in ["hostcalls", "modules", "engines"] {
        for input in inputs(target) {
            let run = targets.run(target, &fs::read(&input).unwrap());
            run.unwrap_or_else(|violation| panic!("{}: {violation}", input.display()));
        }
    }
    for input in inputs("specs") {
        specs::check(specs::object(&fs::read(&input).unwrap()));
    }
}
