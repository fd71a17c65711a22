//! Label and field selectors: read or refused, and then matched.
#![no_main]

use coracle_api::selector::{FieldSelector, LabelSelector};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = LabelSelector::parse(text) {
        selector.matches(|_| None);
        selector.matches(|_| Some(text));
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        selector.matches(|_| None);
        selector.matches(|field| selector.requires(field));
    }
});
