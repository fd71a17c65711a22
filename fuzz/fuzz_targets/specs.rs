//! Mistyped objects of the API: refused, or kept as they are.
#![no_main]

use coracle_generators::specs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    specs::check(specs::object(bytes));
});
