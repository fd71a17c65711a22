//! What a module looks like before it is compiled.

use crate::error::ImageError;

/// The largest module that can be loaded: compiling costs more than a CPU second per megabyte, and the largest guests that
/// people build (a Python interpreter) are a tenth of this.
pub const MAX_MODULE_BYTES: u64 = 256 << 20;

/// Looks at the first bytes, and at how many there are.
pub fn check_module(reference: &str, bytes: &[u8]) -> Result<(), ImageError> {
    let size = bytes.len() as u64;
    if size > MAX_MODULE_BYTES {
        return Err(ImageError::TooLarge {
            reference: reference.to_owned(),
            size,
        });
    }
    match not_wasm(bytes) {
        Some(what) => Err(ImageError::NotWasm {
            reference: reference.to_owned(),
            what,
        }),
        None => Ok(()),
    }
}

/// Names what is not a module by its first bytes.
fn not_wasm(bytes: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 8] = [
        (b"\x7fELF", "a Linux program"),
        (b"MZ", "a Windows program"),
        (b"\xcf\xfa\xed\xfe", "a macOS program"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"PK\x03\x04", "a zip archive"),
        (b"#!", "a script"),
        (b"(module", "WebAssembly text, which has to be assembled first"),
        (b"(component", "WebAssembly text, which has to be assembled first"),
    ];
    if bytes.starts_with(b"\0asm") {
        return None;
    }
    if bytes.is_empty() {
        return Some("empty");
    }
    let known = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic));
    Some(known.map_or("a file of another kind", |(_, what)| what))
}
