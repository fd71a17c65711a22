//! Compiles the sample guests, so that they are part of the binary as built-in images.

use std::path::{Path, PathBuf};
use std::{env, process};

#[path = "../../guests/compile.rs"]
mod compile;

/// The guests that become built-in images.
const GUESTS: [&str; 6] = ["hello", "web", "proxy-sidecar", "caller", "worker", "toolbox"];

/// The guest that makes calls to the host as it is told, for those who look for what the host does not stand. It is no image.
const DRIVER: &str = "test/driver";

fn main() {
    if let Err(why) = build() {
        eprintln!("{why}");
        process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let out = env::var_os("OUT_DIR")
        .map(PathBuf::from)
        .ok_or("cargo did not set OUT_DIR")?;
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests");
    let packages: Vec<_> = GUESTS.into_iter().chain([DRIVER]).collect();
    let modules = compile::compile(&guests, &out, "wasm32-wasip2", &packages)?;
    let mut rows: Vec<_> = GUESTS
        .iter()
        .map(|name| name.to_string())
        .zip(modules.clone())
        .collect();
    compile::write_table(&out.join("builtins.rs"), "BUILTINS", &rows)?;
    rows = modules
        .into_iter()
        .skip(GUESTS.len())
        .map(|module| ("driver".to_owned(), module))
        .collect();
    compile::write_table(&out.join("drivers.rs"), "DRIVERS", &rows)
}
