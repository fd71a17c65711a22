//! What is known of every Kubernetes type: names, numbers, types and merge rules of all fields, as data.
//!
//! The facts are generated from the Go definitions of Kubernetes 1.36 into `fields/facts.bin`, and everything that
//! depends on the shape of a type (normaliser, protobuf, patches, OpenAPI) reads them here. This module must never hold
//! a fact of its own: a wrong fact is corrected in the generator. To make the table again, unpack the development
//! packages that `NOTICE` names (they install under `usr/share/gocode/src`) and run
//!
//! ```text
//! cargo run -p coracle-api --bin generate-fields -- <unpacked>/usr/share/gocode/src control/api/fields/facts.bin
//! ```
//!
//! The table is read once, at the first question, and lives as long as the process.

#[cfg(test)]
pub(crate) mod arbitrary;
pub mod format;
mod load;

use std::sync::OnceLock;

/// A type of the Kubernetes API that has fields; cheap to copy and compare.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StructRef(u16);

/// The type of a value; cheap to copy and compare.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeRef(u16);

/// What a value of a type looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Text.
    String,
    /// True or false.
    Bool,
    /// A 32-bit signed integer.
    Int32,
    /// A 64-bit signed integer.
    Int64,
    /// A double.
    Float64,
    /// Bytes: base64 text in JSON.
    Bytes,
    /// Any JSON value.
    Any,
    /// An amount of a resource such as `500m` or `1Gi`.
    Quantity,
    /// A time with seconds.
    Time,
    /// A time with microseconds.
    MicroTime,
    /// A length of time such as `1h5m`.
    Duration,
    /// A 32-bit integer or text: a port, or a count or percentage.
    IntOrString,
    /// An embedded object of any kind.
    RawExtension,
    /// The set of fields that a manager owns.
    FieldsV1,
    /// A JSON value inside a JSON schema.
    Json,
    /// A JSON schema or a boolean.
    SchemaOrBool,
    /// A JSON schema or a list of them.
    SchemaOrArray,
    /// A JSON schema or a list of strings.
    SchemaOrStrings,
    /// An object with known fields.
    Struct(StructRef),
    /// A list.
    Slice(TypeRef),
    /// An object with arbitrary keys.
    Map(TypeRef),
}

/// How server-side apply merges a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListType {
    /// As one value.
    Atomic,
    /// As a set of scalars.
    Set,
    /// As a map, by [`Field::map_keys`].
    Map,
}

/// How server-side apply merges an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapType {
    /// As one value.
    Atomic,
    /// Key by key.
    Granular,
}

/// How a strategic merge patch treats a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PatchStrategy {
    /// A list is merged with the old one, by [`Field::merge_key`] or, for scalars, by value.
    pub merge: bool,
    /// The value is replaced as a whole.
    pub replace: bool,
    /// The patch may name the keys that survive (`$retainKeys`).
    pub retain_keys: bool,
}

/// One field of a type.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name in JSON; empty for an embedded struct.
    pub json: &'static str,
    /// The number in protobuf; 0 when the type has no protobuf form.
    pub number: u32,
    /// The type of the value, without the pointer.
    pub kind: TypeRef,
    /// A pointer in Go: absent and zero differ.
    pub pointer: bool,
    /// The inner fields stand in the outer object.
    pub inline: bool,
    /// `omitempty`: an empty scalar, list or map is left out.
    pub omit_empty: bool,
    /// `omitzero`: a zero value of any type is left out.
    pub omit_zero: bool,
    /// OpenAPI lists the field as required.
    pub required: bool,
    /// The list rule of server-side apply, if declared.
    pub list_type: Option<ListType>,
    /// The map rule of server-side apply, if declared.
    pub map_type: Option<MapType>,
    /// The keys of a [`ListType::Map`] list.
    pub map_keys: &'static [&'static str],
    /// The key by which a strategic merge patch finds an element; empty when there is none.
    pub merge_key: &'static str,
    /// What a strategic merge patch does with the field.
    pub patch_strategy: PatchStrategy,
    /// The declared default as JSON text; empty when there is none.
    pub default: &'static str,
}

/// A type with fields, as loaded.
struct Struct {
    name: &'static str,
    group: Option<&'static str>,
    atomic: bool,
    kind: bool,
    declared: &'static [Field],
    flat: &'static [Field],
}

/// A type, as loaded.
struct Type {
    shape: Shape,
    name: &'static str,
    pointer: bool,
    message: bool,
    values: &'static [&'static str],
}

static NO_STRUCT: Struct = Struct {
    name: "",
    group: None,
    atomic: false,
    kind: false,
    declared: &[],
    flat: &[],
};
static NO_TYPE: Type = Type {
    shape: Shape::Any,
    name: "",
    pointer: false,
    message: false,
    values: &[],
};

/// All facts.
#[derive(Default)]
struct Facts {
    structs: Vec<Struct>,
    types: Vec<Type>,
    /// Struct indices in order of Go names.
    by_name: Vec<u16>,
}

fn facts() -> &'static Facts {
    static FACTS: OnceLock<Facts> = OnceLock::new();
    // The table is part of the binary and a test reads it whole, so there is no one to tell of a broken one.
    FACTS.get_or_init(|| load::facts(include_bytes!("../fields/facts.bin")).unwrap_or_default())
}

/// The type with this Go name, such as `k8s.io/api/core/v1.Pod`.
pub fn go_type(name: &str) -> Option<StructRef> {
    let facts = facts();
    let name_of = |index: &u16| facts.structs.get(usize::from(*index)).map_or("", |s| s.name);
    let at = facts.by_name.binary_search_by(|index| name_of(index).cmp(name)).ok()?;
    facts.by_name.get(at).copied().map(StructRef)
}

/// The type that objects of this group, version and kind have. Options, `Status` and the other kinds that belong to no
/// group are found under every group, as clients send them.
pub fn object_type(group: &str, version: &str, kind: &str) -> Option<StructRef> {
    const META: &str = "k8s.io/apimachinery/pkg/apis/meta/v1.";
    let of_group = structs()
        .find(|s| s.is_object() && s.group() == Some(group) && s.version() == version && s.short_name() == kind);
    of_group.or_else(|| go_type(&format!("{META}{kind}")).filter(|s| s.is_object()))
}

/// Every type there is, in order of names.
pub fn structs() -> impl Iterator<Item = StructRef> {
    facts().by_name.iter().copied().map(StructRef)
}

impl StructRef {
    fn get(self) -> &'static Struct {
        facts().structs.get(usize::from(self.0)).unwrap_or(&NO_STRUCT)
    }

    /// The Go name with its package: `k8s.io/api/core/v1.Pod`.
    pub fn name(self) -> &'static str {
        self.get().name
    }

    /// The Go name alone: `Pod`.
    pub fn short_name(self) -> &'static str {
        self.name().rsplit('.').next().unwrap_or_default()
    }

    /// The Go name as Go prints it: `v1.Pod`.
    pub fn printed_name(self) -> &'static str {
        self.name().rsplit('/').next().unwrap_or_default()
    }

    /// The API version of its package: `v1`.
    pub fn version(self) -> &'static str {
        self.printed_name().split('.').next().unwrap_or_default()
    }

    /// The API group of its package, if the package belongs to one; the core group is empty.
    pub fn group(self) -> Option<&'static str> {
        self.get().group
    }

    /// True when values carry `kind` and `apiVersion`.
    pub fn is_object(self) -> bool {
        self.get().kind
    }

    /// True when server-side apply owns a value as a whole.
    pub fn is_atomic(self) -> bool {
        self.get().atomic
    }

    /// The fields as they stand in JSON, embedded structs expanded, in Go's order.
    pub fn fields(self) -> &'static [Field] {
        self.get().flat
    }

    /// The fields as they are declared and stand in protobuf: embedded structs are one field.
    pub fn declared_fields(self) -> &'static [Field] {
        self.get().declared
    }

    /// The field with this JSON name (case matters).
    pub fn field(self, json: &str) -> Option<&'static Field> {
        self.fields().iter().find(|f| f.json == json)
    }

    /// The declared field with this protobuf number.
    pub fn field_by_number(self, number: u32) -> Option<&'static Field> {
        self.declared_fields().iter().find(|f| f.number == number)
    }
}

impl TypeRef {
    fn get(self) -> &'static Type {
        facts().types.get(usize::from(self.0)).unwrap_or(&NO_TYPE)
    }

    /// What values look like; a named type has the shape of what it stands for.
    pub fn shape(self) -> Shape {
        self.get().shape
    }

    /// The values a string is confined to; empty when it is free.
    pub fn values(self) -> &'static [&'static str] {
        self.get().values
    }

    /// True for `*T` inside a slice or map.
    pub fn is_pointer(self) -> bool {
        self.get().pointer
    }

    /// True when protobuf wraps the list in a message of its own.
    pub fn is_message(self) -> bool {
        self.get().message
    }

    /// The full Go name of a named type; empty for others.
    pub fn name(self) -> &'static str {
        self.get().name
    }

    /// The type as Go prints it in errors: `int32`, `[]v1.Container`, `map[string]string`, `v1.PullPolicy`.
    pub fn printed_name(self) -> String {
        let this = self.get();
        if !this.name.is_empty() {
            return this.name.rsplit('/').next().unwrap_or_default().to_owned();
        }
        let star = if this.pointer { "*" } else { "" };
        match this.shape {
            Shape::Slice(element) => format!("{star}[]{}", element.printed_name()),
            Shape::Map(value) => format!("{star}map[string]{}", value.printed_name()),
            Shape::Struct(s) => format!("{star}{}", s.printed_name()),
            other => format!("{star}{}", other.printed_name()),
        }
    }
}

impl Shape {
    /// The Go type of a shape without operands, as Go prints it.
    fn printed_name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Bytes => "[]uint8",
            Self::Any => "interface {}",
            Self::Quantity => "resource.Quantity",
            Self::Time => "v1.Time",
            Self::MicroTime => "v1.MicroTime",
            Self::Duration => "v1.Duration",
            Self::IntOrString => "intstr.IntOrString",
            Self::RawExtension => "runtime.RawExtension",
            Self::FieldsV1 => "v1.FieldsV1",
            Self::Json => "v1.JSON",
            Self::SchemaOrBool => "v1.JSONSchemaPropsOrBool",
            Self::SchemaOrArray => "v1.JSONSchemaPropsOrArray",
            Self::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray",
            Self::Struct(_) => "struct",
            Self::Slice(_) => "slice",
            Self::Map(_) => "map",
        }
    }
}

impl std::fmt::Debug for StructRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::fmt::Debug for TypeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.printed_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn field(go_type_name: &str, json: &str) -> &'static Field {
        go_type(go_type_name)
            .unwrap()
            .field(json)
            .unwrap_or_else(|| panic!("{go_type_name} has no {json}"))
    }

    #[test]
    fn the_table_knows_kubernetes() {
        let started = Instant::now();
        assert!(load::facts(include_bytes!("../fields/facts.bin")).is_ok());
        println!("loaded in {:?}", started.elapsed());
        assert!(structs().count() > 1000);
        let containers = field("k8s.io/api/core/v1.PodSpec", "containers");
        assert_eq!(
            (containers.number, containers.merge_key, containers.map_keys),
            (2, "name", &["name"][..])
        );
        assert!(containers.required && containers.patch_strategy.merge && !containers.omit_empty);
        assert_eq!(containers.list_type, Some(ListType::Map));
        assert_eq!(containers.kind.printed_name(), "[]v1.Container");
        let replicas = field("k8s.io/api/apps/v1.DeploymentSpec", "replicas");
        assert!(replicas.pointer && replicas.kind.shape() == Shape::Int32);
        let created = field("k8s.io/apimachinery/pkg/apis/meta/v1.ObjectMeta", "creationTimestamp");
        assert!(created.omit_zero && created.kind.shape() == Shape::Time);
        let policy = field("k8s.io/api/core/v1.Container", "imagePullPolicy").kind;
        assert_eq!(
            (policy.values(), policy.printed_name()),
            (&["Always", "IfNotPresent", "Never"][..], "v1.PullPolicy".into())
        );
        let volume = go_type("k8s.io/api/core/v1.Volume").unwrap();
        assert!(volume.field_by_number(2).unwrap().inline);
        assert!(volume.field("emptyDir").is_some() && volume.field("EmptyDir").is_none());
        assert_eq!(go_type("k8s.io/api/core/v1.Boat"), None);
    }

    #[test]
    fn objects_are_found_by_group_version_and_kind() {
        let name = |group, version, kind| object_type(group, version, kind).map(StructRef::name);
        assert_eq!(name("", "v1", "Pod"), Some("k8s.io/api/core/v1.Pod"));
        assert_eq!(name("apps", "v1", "Deployment"), Some("k8s.io/api/apps/v1.Deployment"));
        assert_eq!(
            name("rbac.authorization.k8s.io", "v1", "Role"),
            Some("k8s.io/api/rbac/v1.Role")
        );
        assert_eq!(
            name("apps", "v1", "DeleteOptions"),
            Some("k8s.io/apimachinery/pkg/apis/meta/v1.DeleteOptions")
        );
        assert_eq!(name("", "v1", "PodSpec"), None);
        assert_eq!(name("apps", "v1", "Pod"), None);
    }

    #[test]
    fn a_broken_table_is_refused() {
        use std::io::Write;
        let mut whole = Vec::new();
        std::io::Read::read_to_end(
            &mut flate2::read::ZlibDecoder::new(&include_bytes!("../fields/facts.bin")[..]),
            &mut whole,
        )
        .unwrap();
        for cut in (0..whole.len()).step_by(4999) {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&whole[..cut]).unwrap();
            assert!(load::facts(&encoder.finish().unwrap()).is_err(), "cut at {cut}");
        }
    }
}
