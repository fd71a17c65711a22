//! The frames of a SPDY connection, in pieces of every size.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else {
        return;
    };
    coracle_server::fuzzing::spdy(bytes.chunks(usize::from(*size).max(1)));
});
