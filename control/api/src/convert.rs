//! Between the versions of kinds that are served in several. Each pair of functions loses nothing: what one version has
//! no field for, the other keeps aside.

pub mod autoscaling;
pub mod event;

use crate::object;
use serde_json::Value;

/// Gives a field another name, where it is.
fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(value) = object::fields(object).shift_remove(from) {
        object::fields(object).insert(to.to_owned(), value);
    }
}
