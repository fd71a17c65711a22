//! The kinds that the server serves: one row each, from which discovery, routing, printing and checking are derived.
//!
//! A row names facts and functions; it never holds state. Rows own their texts, so kinds that users define at run time fit
//! the same type. A set of kinds is built once and then only read; a changed set is a new one.

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod events;
pub mod flowcontrol;
pub mod metrics;
pub mod networking;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod reviews;
pub mod scheduling;
pub mod storage;
#[cfg(test)]
mod suite;

use crate::custom::{Custom, publish};
use crate::field_error::FieldError;
use crate::key::GroupResource;
use crate::object;
use crate::schema::openapi_schema_name;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// A text that is a literal for built-in kinds and owned for kinds made at run time.
pub type Text = Cow<'static, str>;

/// What can be done with an ordinary stored resource, in the order in which discovery lists it.
pub const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
const READ: &[&str] = &["get", "list"];
const CHANGE: &[&str] = &["get", "patch", "update"];

/// One kind of object that the server serves.
#[derive(Debug, Clone)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: Text,
    /// API version within the group.
    pub version: Text,
    /// `Pod`.
    pub kind: Text,
    /// `pods`, the name in paths.
    pub plural: Text,
    /// `pod`.
    pub singular: Text,
    /// `po`: what users may type instead.
    pub short_names: Vec<Text>,
    /// Groups of kinds that users may name together, such as `all`.
    pub categories: Vec<Text>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What can be done, sorted. A kind with `create` only is answered and never stored; one that is read and not watched
    /// is made when it is read.
    pub verbs: Cow<'static, [&'static str]>,
    /// The paths below an object.
    pub subresources: Vec<Subresource>,
    /// The Go type that defines the fields, such as `k8s.io/api/core/v1.Pod`; empty for kinds without one.
    pub go_type: &'static str,
    /// How objects print in tables.
    pub printer: Printer,
    /// By which fields objects can be selected.
    pub selectable: Vec<Selectable>,
    /// Whether `metadata.generation` counts the changes of what is wanted.
    pub has_generation: bool,
    /// Whether a new object may bring its status along, as a node does when it registers.
    pub status_on_create: bool,
    /// Whether a replace of an object that does not exist creates it.
    pub create_on_update: bool,
    /// Whether a replace must say which resource version it replaces.
    pub revision_required: bool,
    /// Whether a delete waits for the node to stop the object first.
    pub graceful: bool,
    /// What happens to dependents when a delete does not say.
    pub propagation: Propagation,
    /// What is particular to the kind.
    pub strategy: Strategy,
    /// Set when objects are stored as those of another row; this one then only says how they are shown and taken.
    pub conversion: Option<Conversion>,
    /// What is said to those who use a built-in kind that is on its way out.
    pub deprecated: Option<&'static str>,
    /// What is particular to a kind that a user defined; nothing for built-in kinds.
    pub custom: Option<Arc<Custom>>,
}

/// How a kind that is served in several versions, or in several groups, is stored once.
///
/// A request for the row is brought into its own form, given its own defaults and rules, and then turned into the stored
/// row's object, which decides all else; an answer is turned back. These functions keep what the other version has no
/// field for, so that a round trip loses nothing.
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    /// Group, version and plural of the row that stores the objects.
    pub stored_as: (&'static str, &'static str, &'static str),
    /// The labels of field selectors whose names differ: this row's, the stored row's.
    pub labels: &'static [(&'static str, &'static str)],
    /// Turns a stored object into one of this row.
    pub from_stored: fn(&mut Value),
    /// Turns an object of this row, normalised and completed, into a stored one.
    pub to_stored: fn(&mut Value),
    /// The same for a configuration to apply, which must not come to say more than it did.
    pub to_configured: fn(&mut Value),
}

/// What becomes of an object's dependents when it is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, without their owner.
    Orphan,
    /// They are deleted afterwards.
    Background,
    /// They are deleted before.
    Foreground,
}

/// A path below an object.
#[derive(Debug, Clone)]
pub struct Subresource {
    /// The last part of the path: `status`, `log`.
    pub name: Text,
    /// What can be done, sorted.
    pub verbs: Cow<'static, [&'static str]>,
    /// The kind of the body where it is not the object's own.
    pub body: Option<Body>,
}

/// The kind of a subresource's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// API group.
    pub group: Text,
    /// API version.
    pub version: Text,
    /// Kind.
    pub kind: Text,
    /// The Go type that defines the fields.
    pub go_type: &'static str,
}

/// A field by which objects can be selected.
#[derive(Debug, Clone)]
pub struct Selectable {
    /// Its name in a field selector.
    pub label: Text,
    /// Where the value stands; several paths are tried in order.
    pub paths: Vec<Text>,
    /// What a missing value counts as.
    pub absent: &'static str,
}

/// How objects print in tables.
#[derive(Debug, Clone, Copy)]
pub enum Printer {
    /// Name and time of creation.
    Generic,
    /// Columns of the kind's own.
    Cells {
        /// The columns.
        columns: &'static [Column],
        /// One cell for each column, from an object and the time in microseconds.
        cells: fn(&Value, i64) -> Vec<Value>,
    },
}

/// One column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// The heading.
    pub name: &'static str,
    /// The OpenAPI type of its cells.
    pub kind: &'static str,
    /// The OpenAPI format; `name` marks the column that names the object.
    pub format: &'static str,
    /// 0 is always shown, 1 only in wide output.
    pub priority: u8,
}

/// The rule that names of a kind follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// Labels joined by dots: letters, digits, `-`; up to 253 characters.
    Subdomain,
    /// A single label of up to 63 characters.
    Label,
    /// A single label of up to 63 characters that starts with a letter.
    ServiceName,
    /// Anything that fits into a path.
    PathSegment,
    /// An IP address in its canonical form.
    IpAddress,
}

/// What is particular to a kind. Every function is pure.
#[derive(Debug, Clone, Copy)]
pub struct Strategy {
    /// The rule for names.
    pub name: NameRule,
    /// Fills in what the user left out.
    pub default: fn(&mut Value),
    /// Checks everything but metadata.
    pub validate: fn(&Value, &mut Vec<FieldError>),
    /// Checks a change, new and old; `validate` runs as well.
    pub validate_update: fn(&Value, &Value, &mut Vec<FieldError>),
    /// Checks a change of the status, new and old.
    pub validate_status: fn(&Value, &Value, &mut Vec<FieldError>),
    /// Sets what a client may not choose in a new object.
    pub prepare_create: fn(&mut Value),
    /// Keeps what a client may not change, new and old.
    pub prepare_update: fn(&mut Value, &Value),
    /// Keeps what a write to `status` may not change of the status itself, new and old.
    pub prepare_status: fn(&mut Value, &Value),
}

impl Strategy {
    /// Nothing particular.
    pub const NONE: Strategy = Strategy {
        name: NameRule::Subdomain,
        default: |_| {},
        validate: |_, _| {},
        validate_update: |_, _, _| {},
        validate_status: |_, _, _| {},
        prepare_create: |_| {},
        prepare_update: |_, _| {},
        prepare_status: |_, _| {},
    };
}

impl Kind {
    /// A namespaced, stored kind without subresources; the methods below change what differs.
    pub fn new(
        group: impl Into<Text>,
        version: impl Into<Text>,
        kind: impl Into<Text>,
        plural: impl Into<Text>,
        go_type: &'static str,
    ) -> Self {
        let kind = kind.into();
        Self {
            group: group.into(),
            version: version.into(),
            singular: Cow::Owned(kind.to_ascii_lowercase()),
            kind,
            plural: plural.into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            verbs: Cow::Borrowed(ALL_VERBS),
            subresources: Vec::new(),
            go_type,
            printer: Printer::Generic,
            selectable: vec![Selectable::new("metadata.name"), Selectable::new("metadata.namespace")],
            has_generation: false,
            status_on_create: false,
            create_on_update: false,
            revision_required: false,
            graceful: false,
            propagation: Propagation::Background,
            strategy: Strategy::NONE,
            conversion: None,
            deprecated: None,
            custom: None,
        }
    }

    fn cluster(mut self) -> Self {
        self.namespaced = false;
        self.selectable.retain(|field| field.label != "metadata.namespace");
        self
    }

    fn short(mut self, names: &[&'static str]) -> Self {
        self.short_names = names.iter().copied().map(Cow::Borrowed).collect();
        self
    }

    fn in_all(mut self) -> Self {
        self.categories.push(Cow::Borrowed("all"));
        self
    }

    fn in_extensions(mut self) -> Self {
        self.categories.push(Cow::Borrowed("api-extensions"));
        self
    }

    fn with_verbs(mut self, verbs: &'static [&'static str]) -> Self {
        self.verbs = Cow::Borrowed(verbs);
        self
    }

    fn with_status(self) -> Self {
        self.sub("status", CHANGE)
    }

    fn with_scale(self) -> Self {
        let scale = Body::new("autoscaling", "v1", "Scale", "k8s.io/api/autoscaling/v1.Scale");
        self.sub_of("scale", CHANGE, scale)
    }

    fn sub(mut self, name: &'static str, verbs: &'static [&'static str]) -> Self {
        self.subresources.push(Subresource {
            name: Cow::Borrowed(name),
            verbs: Cow::Borrowed(verbs),
            body: None,
        });
        self
    }

    fn sub_of(self, name: &'static str, verbs: &'static [&'static str], body: Body) -> Self {
        let mut kind = self.sub(name, verbs);
        if let Some(last) = kind.subresources.last_mut() {
            last.body = Some(body);
        }
        kind
    }

    fn selectable_by(mut self, fields: &[&'static str]) -> Self {
        self.selectable.extend(fields.iter().copied().map(Selectable::new));
        self
    }

    fn selectable_as(mut self, label: &'static str, paths: &[&'static str], absent: &'static str) -> Self {
        let paths = paths.iter().copied().map(Cow::Borrowed).collect();
        self.selectable.push(Selectable {
            label: Cow::Borrowed(label),
            paths,
            absent,
        });
        self
    }

    fn with_generation(mut self) -> Self {
        self.has_generation = true;
        self
    }

    fn created_on_update(mut self) -> Self {
        self.create_on_update = true;
        self
    }

    fn printed(mut self, columns: &'static [Column], cells: fn(&Value, i64) -> Vec<Value>) -> Self {
        self.printer = Printer::Cells { columns, cells };
        self
    }

    fn deprecated(mut self, words: &'static str) -> Self {
        self.deprecated = Some(words);
        self
    }

    fn with(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The kind of a list: `PodList`.
    pub fn list_kind(&self) -> String {
        match &self.custom {
            Some(custom) if !custom.list_kind.is_empty() => custom.list_kind.clone(),
            _ => format!("{}List", self.kind),
        }
    }

    /// The name of the kind's schema in OpenAPI.
    pub fn schema_name(&self) -> String {
        match &self.custom {
            Some(_) => publish::schema_name(self),
            None => openapi_schema_name(self.go_type),
        }
    }

    /// The resource with its group.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource {
            group: self.group.clone(),
            resource: self.plural.clone(),
        }
    }

    /// Whether `verb` can be done with it.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// Whether objects are stored; the others are questions that a create answers, or made when they are read.
    pub fn is_stored(&self) -> bool {
        self.allows("watch")
    }

    /// Whether objects are made when they are read, and nothing is stored.
    pub fn is_made_on_reading(&self) -> bool {
        self.allows("get") && !self.is_stored()
    }

    /// What is said to those who use the kind, if it is on its way out.
    pub fn deprecation(&self) -> Option<&str> {
        let custom = self.custom.as_ref().and_then(|custom| custom.deprecation.as_deref());
        custom.or(self.deprecated)
    }

    /// A path below an object.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether status is written apart from the rest.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Whether a field selector may name this field.
    pub fn is_selectable(&self, label: &str) -> bool {
        self.selectable.iter().any(|field| field.label == label)
    }

    /// The selectable fields of an object with their values; a missing value reads as the field's default.
    pub fn fields<'a>(&'a self, object: &'a Value) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> {
        self.selectable
            .iter()
            .map(|field| (field.label.as_ref(), field.value(object)))
    }
}

impl Subresource {
    /// Whether `verb` can be done with it.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}

impl Body {
    fn new(group: &'static str, version: &'static str, kind: &'static str, go_type: &'static str) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            kind: Cow::Borrowed(kind),
            go_type,
        }
    }

    /// `policy/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl Selectable {
    /// A field that selectors name by its path.
    pub fn new(path: impl Into<Text>) -> Self {
        let label = path.into();
        Self {
            paths: vec![label.clone()],
            label,
            absent: "",
        }
    }

    /// The value in an object. Lists read as their first item's `ip`, which is what selecting by addresses means.
    pub fn value<'a>(&self, object: &'a Value) -> Cow<'a, str> {
        let found = self
            .paths
            .iter()
            .filter_map(|path| object::get(object, path))
            .find_map(|value| match value {
                Value::String(text) if text.is_empty() => None,
                Value::String(text) => Some(Cow::Borrowed(text.as_str())),
                Value::Array(items) => {
                    let addresses: Vec<&str> = items.iter().map(|item| object::text(item, "ip")).collect();
                    Some(Cow::Owned(addresses.join(",")))
                }
                other => Some(Cow::Owned(other.to_string())),
            });
        found.unwrap_or(Cow::Borrowed(self.absent))
    }
}

/// A set of kinds, in the order in which discovery lists them.
#[derive(Debug, Clone, Default)]
pub struct Kinds {
    rows: Vec<Arc<Kind>>,
    by_plural: HashMap<Text, Vec<Arc<Kind>>>,
    by_kind: HashMap<Text, Vec<Arc<Kind>>>,
}

impl Kinds {
    /// The kinds that every server has.
    pub fn builtin() -> Self {
        let groups = [
            core::kinds(),
            apiregistration::kinds(),
            apps::kinds(),
            events::kinds(),
            reviews::kinds(),
            autoscaling::kinds(),
            batch::kinds(),
            certificates::kinds(),
            networking::kinds(),
            policy::kinds(),
            rbac::kinds(),
            storage::kinds(),
            admissionregistration::kinds(),
            scheduling::kinds(),
            coordination::kinds(),
            node::kinds(),
            discovery::kinds(),
            resource::kinds(),
            flowcontrol::kinds(),
            apiextensions::kinds(),
            metrics::kinds(),
        ];
        groups.into_iter().flatten().map(Arc::new).collect()
    }

    /// The kind behind a path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        let mut named = self.by_plural.get(plural)?.iter();
        named.find(|kind| kind.group == group && kind.version == version)
    }

    /// The kind behind an object's `apiVersion` and `kind`.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Kind>> {
        let mut named = self.by_kind.get(kind)?.iter();
        named.find(|row| row.group == group && row.version == version)
    }

    /// The kind in whose form the objects of a kind are stored: itself, unless it is another version of one.
    pub fn stored<'a>(&'a self, kind: &'a Arc<Kind>) -> &'a Arc<Kind> {
        let found = kind.conversion.and_then(|conversion| {
            let (group, version, plural) = conversion.stored_as;
            self.find(group, version, plural)
        });
        found.unwrap_or(kind)
    }

    /// All kinds, in discovery order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.rows.iter()
    }
}

impl FromIterator<Arc<Kind>> for Kinds {
    fn from_iter<I: IntoIterator<Item = Arc<Kind>>>(kinds: I) -> Self {
        let mut set = Self::default();
        for kind in kinds {
            set.by_plural.entry(kind.plural.clone()).or_default().push(kind.clone());
            set.by_kind.entry(kind.kind.clone()).or_default().push(kind.clone());
            set.rows.push(kind);
        }
        set
    }
}

/// The group and version in an `apiVersion`: `apps/v1` is `("apps", "v1")`, `v1` is `("", "v1")`.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}
