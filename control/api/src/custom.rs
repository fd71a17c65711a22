//! Kinds that users define: what a CustomResourceDefinition means, as pure functions.
//!
//! A definition becomes rows of the kinds table ([`definition`]); each row carries a [`Custom`], which does for its objects
//! what the field facts and the strategy do for built-in kinds: it shapes, prunes, defaults, checks and prints them. A
//! schema is compiled once, when its definition is published, and never again while the definition stays as it is.

pub mod check;
pub mod column;
pub mod conversion;
pub mod definition;
mod extent;
pub mod format;
pub mod jsonpath;
pub mod names;
pub mod prune;
pub mod publish;
pub mod rules;
pub mod schema;
pub mod structural;
#[cfg(test)]
mod tests;
pub mod validate;

use std::sync::Arc;

use serde_json::Value;

use crate::field_error::FieldError;
use crate::normalise::Problem;
use crate::object;
use crate::status::ApiError;
use column::CustomColumn;
use schema::Schema;

/// The group of definitions.
pub const GROUP: &str = "apiextensions.k8s.io";
/// The finalizer that keeps a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Where a custom kind keeps its scale, as dotted paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    /// How many replicas are wanted.
    pub wanted: String,
    /// How many there are.
    pub have: String,
    /// The label selector in its text form, if the kind tells one.
    pub selector: Option<String>,
}

/// What is particular to one version of a custom kind.
#[derive(Debug)]
pub struct Custom {
    /// The definition's name: `plural.group`.
    pub definition: String,
    /// The definition's uid.
    pub definition_uid: String,
    /// The definition's revision in the store. Objects that were written later are in the stored form of this very
    /// definition; older ones may lack what it added.
    pub since: u64,
    /// The compiled schema.
    pub schema: Arc<Schema>,
    /// The schema as its author wrote it, for publication.
    pub source: Arc<Value>,
    /// The version in which objects are stored, as an `apiVersion`.
    pub stored_as: String,
    /// The version that this row serves, as an `apiVersion`.
    pub served_as: String,
    /// The webhook that converts between versions, as the definition names it; without one they differ in name only.
    pub webhook: Option<Arc<Value>>,
    /// The columns of tables, after the name.
    pub columns: Vec<CustomColumn>,
    /// Where the scale is, for kinds that have one.
    pub scale: Option<ScalePaths>,
    /// The kind of lists.
    pub list_kind: String,
    /// What is said to those who use a version that is on its way out.
    pub deprecation: Option<String>,
    /// Whether the definition is being deleted, so that no new objects may be made.
    pub ending: bool,
}

impl Custom {
    /// Brings an object into the form in which it is stored and says what had to be dropped.
    ///
    /// # Errors
    /// When the metadata has the wrong types.
    pub fn shape(&self, object: &mut Value) -> Result<Vec<Problem>, ApiError> {
        prune::object(&self.schema, object)
    }

    /// Fills in the defaults of the schema.
    pub fn default(&self, object: &mut Value) {
        prune::default(&self.schema, object);
        object.sort_all_objects();
    }

    /// Checks an object against the schema and its rules.
    pub fn check(&self, new: &Value, old: Option<&Value>, faults: &mut Vec<FieldError>) {
        check::check(&self.schema, new, old, "", faults);
        if !rules::any(&self.schema) {
            return;
        }
        if faults.iter().any(rules::is_blocking) {
            faults.push(rules::skipped());
        } else {
            rules::check(&self.schema, new, old, faults);
        }
    }

    /// Whether stored bytes of this revision can be served as they are.
    pub fn is_current(&self, revision: u64) -> bool {
        self.stored_as == self.served_as && revision >= self.since
    }

    /// Turns a stored object into one of the version that this row serves.
    ///
    /// # Errors
    /// When the metadata has the wrong types.
    pub fn present(&self, object: &mut Value) -> Result<(), ApiError> {
        object::fields(object).insert("apiVersion".to_owned(), Value::from(self.served_as.as_str()));
        self.shape(object)?;
        self.default(object);
        Ok(())
    }

    /// Turns an object of this version into the stored version.
    pub fn store(&self, object: &mut Value) {
        object::fields(object).insert("apiVersion".to_owned(), Value::from(self.stored_as.as_str()));
    }
}
