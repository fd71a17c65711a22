//! A protobuf body: read or refused, never a panic; and what was read is the same when it was written and read again.
#![no_main]

use coracle_api::protobuf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(object) = protobuf::decode(bytes)
        && let Ok(written) = protobuf::encode(&object)
    {
        assert_eq!(protobuf::decode(&written).ok(), Some(object));
    }
});
