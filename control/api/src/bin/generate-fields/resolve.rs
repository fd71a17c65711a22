//! Turns the declarations of all packages into the table: type names become indices, tags become facts.

use crate::declarations::{Body, FieldDeclaration, Package, TypeDeclaration, has_marker, marker_values};
use coracle_api::fields::format::{field, scalar, strategy, structure};
use std::collections::{BTreeMap, HashMap};
use std::error::Error;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Types that have a JSON or protobuf form of their own.
const SPECIAL: [(&str, u8); 12] = [
    ("k8s.io/apimachinery/pkg/api/resource.Quantity", scalar::QUANTITY),
    ("k8s.io/apimachinery/pkg/apis/meta/v1.Time", scalar::TIME),
    ("k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime", scalar::MICRO_TIME),
    ("k8s.io/apimachinery/pkg/apis/meta/v1.Duration", scalar::DURATION),
    ("k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1", scalar::FIELDS_V1),
    ("k8s.io/apimachinery/pkg/runtime.RawExtension", scalar::RAW_EXTENSION),
    ("k8s.io/apimachinery/pkg/runtime.Object", scalar::RAW_EXTENSION),
    ("k8s.io/apimachinery/pkg/util/intstr.IntOrString", scalar::INT_OR_STRING),
    (
        "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON",
        scalar::JSON,
    ),
    (
        "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrBool",
        scalar::SCHEMA_OR_BOOL,
    ),
    (
        "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrArray",
        scalar::SCHEMA_OR_ARRAY,
    ),
    (
        "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray",
        scalar::SCHEMA_OR_STRINGS,
    ),
];

/// Go's own types.
const BUILTIN: [(&str, u8); 10] = [
    ("string", scalar::STRING),
    ("bool", scalar::BOOL),
    ("int32", scalar::INT32),
    ("int64", scalar::INT64),
    ("int", scalar::INT64),
    ("float64", scalar::FLOAT64),
    ("[]byte", scalar::BYTES),
    ("interface{}", scalar::ANY),
    ("any", scalar::ANY),
    ("json.RawMessage", scalar::ANY),
];

/// The whole table.
#[derive(Debug, Default)]
pub struct Table {
    /// All types; the index is the type's number.
    pub types: Vec<Type>,
    /// All structs, in order of names.
    pub structs: Vec<Struct>,
}

/// A type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// A tag of [`scalar`].
    Scalar(u8),
    /// A struct's index.
    Struct(usize),
    /// A list of a type.
    Slice(usize),
    /// A map to a type.
    Map(usize),
    /// A pointer inside a list or map.
    Pointer(usize),
    /// A named type.
    Named {
        /// Its Go name.
        name: String,
        /// What it stands for.
        inner: usize,
        /// Whether protobuf wraps it in a message.
        message: bool,
        /// The values it is confined to.
        values: Vec<String>,
    },
}

/// A struct.
#[derive(Debug)]
pub struct Struct {
    /// Its Go name with the package.
    pub name: String,
    /// Its package's API group.
    pub group: Option<String>,
    /// Bits of [`structure`].
    pub flags: u64,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// A field.
#[derive(Debug, Default)]
pub struct Field {
    /// The JSON name.
    pub json: String,
    /// The protobuf number.
    pub number: u64,
    /// Bits of [`field`].
    pub flags: u64,
    /// The type's index.
    pub kind: usize,
    /// 0 none, 1 atomic, 2 set, 3 map.
    pub list_type: u64,
    /// 0 none, 1 atomic, 2 granular.
    pub map_type: u64,
    /// The list map keys.
    pub map_keys: Vec<String>,
    /// The patch merge key.
    pub merge_key: Option<String>,
    /// Bits of [`strategy`].
    pub strategy: u64,
    /// The default as JSON text.
    pub default: Option<String>,
}

/// Makes the table.
pub fn table(packages: &[Package]) -> Result<Table> {
    let packages: BTreeMap<&str, &Package> = packages.iter().map(|p| (p.path.as_str(), p)).collect();
    let mut names = Vec::new();
    for package in packages.values() {
        for (name, declaration) in &package.types {
            if is_api_struct(declaration) {
                names.push(format!("{}.{name}", package.path));
            }
        }
    }
    names.retain(|name| !SPECIAL.iter().any(|(special, _)| name == special));
    names.sort();
    let struct_index = names
        .iter()
        .enumerate()
        .map(|(index, name)| (name.clone(), index))
        .collect();
    let mut resolver = Resolver {
        packages,
        struct_index,
        types: Vec::new(),
        type_index: HashMap::new(),
    };
    let structs = names
        .iter()
        .map(|name| resolver.structure(name))
        .collect::<Result<Vec<_>>>()?;
    Ok(Table {
        types: resolver.types,
        structs,
    })
}

/// A struct is part of the API when JSON can express it.
fn is_api_struct(declaration: &TypeDeclaration) -> bool {
    matches!(&declaration.body, Body::Struct(fields) if fields.is_empty() || fields.iter().any(|f| f.tag("json").is_some()))
}

struct Resolver<'a> {
    packages: BTreeMap<&'a str, &'a Package>,
    struct_index: HashMap<String, usize>,
    types: Vec<Type>,
    type_index: HashMap<Type, usize>,
}

impl<'a> Resolver<'a> {
    fn structure(&mut self, name: &str) -> Result<Struct> {
        let (package, declaration) = self.find(name).ok_or_else(|| format!("{name} is gone"))?;
        let Body::Struct(declared) = &declaration.body else {
            return Err(format!("{name} is no struct").into());
        };
        let mut fields = Vec::new();
        for field in declared {
            let made = self.field(package, declaration, field);
            fields.extend(made.map_err(|error| format!("{name}, field of type {}: {error}", field.kind))?);
        }
        let mut flags = 0;
        if marker_values(&declaration.markers, "structType").any(|v| v == "atomic") {
            flags |= structure::ATOMIC;
        }
        if declared.iter().any(|f| f.embedded && f.kind.ends_with("TypeMeta")) {
            flags |= structure::KIND;
        }
        Ok(Struct {
            name: name.to_owned(),
            group: package.group.clone(),
            flags,
            fields,
        })
    }

    fn find(&self, name: &str) -> Option<(&'a Package, &'a TypeDeclaration)> {
        let (path, name) = name.rsplit_once('.')?;
        let package = self.packages.get(path).copied()?;
        Some((package, package.types.get(name)?))
    }

    /// The facts of one field, or none when it is not in JSON.
    fn field(
        &mut self,
        package: &'a Package,
        owner: &TypeDeclaration,
        declared: &FieldDeclaration,
    ) -> Result<Option<Field>> {
        let Some(json_tag) = declared.tag("json") else {
            return Ok(None);
        };
        let mut options = json_tag.split(',');
        let json = options.next().unwrap_or_default().to_owned();
        let options: Vec<&str> = options.collect();
        if json == "-" {
            return Ok(None);
        }
        let inline = json.is_empty() && declared.embedded;
        if json.is_empty() && !inline {
            return Err("a field without a JSON name".into());
        }
        let (pointer, expression) = match declared.kind.strip_prefix('*') {
            Some(rest) => (true, rest),
            None => (false, declared.kind.as_str()),
        };
        let kind = self.expression(package, owner, expression)?;
        let number = match declared.tag("protobuf").and_then(|tag| tag.split(',').nth(1)) {
            Some(number) => number.parse()?,
            None => 0,
        };
        let mut flags = 0;
        for (set, bit) in [
            (inline, field::INLINE),
            (pointer, field::POINTER),
            (options.contains(&"omitempty"), field::OMIT_EMPTY),
            (options.contains(&"omitzero"), field::OMIT_ZERO),
            (!inline && required(declared, &options)?, field::REQUIRED),
        ] {
            flags |= if set { bit } else { 0 };
        }
        let mut made = Field {
            json,
            number,
            flags,
            kind,
            ..Field::default()
        };
        merge_rules(declared, &mut made)?;
        made.default = marker_values(&declared.markers, "default")
            .next()
            .map(|text| default_text(package, text))
            .transpose()?;
        Ok(Some(made))
    }

    fn intern(&mut self, kind: Type) -> usize {
        if let Some(index) = self.type_index.get(&kind) {
            return *index;
        }
        self.types.push(kind.clone());
        self.type_index.insert(kind, self.types.len() - 1);
        self.types.len() - 1
    }

    /// The type that an expression in `owner`'s file means.
    fn expression(&mut self, package: &'a Package, owner: &TypeDeclaration, text: &str) -> Result<usize> {
        if let Some((_, tag)) = BUILTIN.iter().find(|(name, _)| *name == text) {
            return Ok(self.intern(Type::Scalar(*tag)));
        }
        if let Some(pointed) = text.strip_prefix('*') {
            let inner = self.expression(package, owner, pointed)?;
            return Ok(self.intern(Type::Pointer(inner)));
        }
        if let Some(element) = text.strip_prefix("[]") {
            let inner = self.expression(package, owner, element)?;
            return Ok(self.intern(Type::Slice(inner)));
        }
        if let Some((_, value)) = text.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
            let inner = self.expression(package, owner, value)?;
            return Ok(self.intern(Type::Map(inner)));
        }
        let full = match text.split_once('.') {
            Some((alias, name)) => {
                let path = owner.imports.get(alias).ok_or_else(|| format!("no import {alias}"))?;
                format!("{path}.{name}")
            }
            None => format!("{}.{text}", package.path),
        };
        self.named(&full)
    }

    fn named(&mut self, full: &str) -> Result<usize> {
        if let Some((_, tag)) = SPECIAL.iter().find(|(name, _)| *name == full) {
            return Ok(self.intern(Type::Scalar(*tag)));
        }
        if let Some(index) = self.struct_index.get(full) {
            return Ok(self.intern(Type::Struct(*index)));
        }
        let (package, declaration) = self.find(full).ok_or_else(|| format!("unknown type {full}"))?;
        let Body::Other(expression) = &declaration.body else {
            return Err(format!("{full} has no JSON form").into());
        };
        let inner = self.expression(package, declaration, expression)?;
        let short = full.rsplit('.').next().unwrap_or(full);
        let mut values = Vec::new();
        if has_marker(&declaration.markers, "enum") || has_marker(&declaration.markers, "k8s:enum") {
            values.extend(
                package
                    .constants
                    .iter()
                    .filter(|c| c.kind == short)
                    .map(|c| c.value.clone()),
            );
            values.sort();
            values.dedup();
        }
        let message = marker_values(&declaration.markers, "protobuf.nullable").any(|v| v == "true");
        Ok(self.intern(Type::Named {
            name: full.to_owned(),
            inner,
            message,
            values,
        }))
    }
}

/// Whether OpenAPI lists the field as required: by its marker, else when it has no `omitempty`.
fn required(declared: &FieldDeclaration, options: &[&str]) -> Result<bool> {
    let optional = has_marker(&declared.markers, "optional");
    let required = has_marker(&declared.markers, "required");
    match (optional, required) {
        (true, true) => Err("both optional and required".into()),
        (false, false) => Ok(!options.contains(&"omitempty")),
        (_, required) => Ok(required),
    }
}

fn merge_rules(declared: &FieldDeclaration, made: &mut Field) -> Result<()> {
    made.list_type = match marker_values(&declared.markers, "listType").next() {
        None => 0,
        Some("atomic") => 1,
        Some("set") => 2,
        Some("map") => 3,
        Some(other) => return Err(format!("list type {other}").into()),
    };
    made.map_type = match marker_values(&declared.markers, "mapType")
        .chain(marker_values(&declared.markers, "structType"))
        .next()
    {
        None => 0,
        Some("atomic") => 1,
        Some("granular") => 2,
        Some(other) => return Err(format!("map type {other}").into()),
    };
    made.map_keys = marker_values(&declared.markers, "listMapKey")
        .map(str::to_owned)
        .collect();
    made.merge_key = declared.tag("patchMergeKey").map(str::to_owned);
    for word in declared
        .tag("patchStrategy")
        .unwrap_or_default()
        .split(',')
        .filter(|word| !word.is_empty())
    {
        made.strategy |= match word {
            "merge" => strategy::MERGE,
            "replace" => strategy::REPLACE,
            "retainKeys" => strategy::RETAIN_KEYS,
            other => return Err(format!("patch strategy {other}").into()),
        };
    }
    Ok(())
}

/// A default's JSON text; `ref(Name)` means a constant of the package.
fn default_text(package: &Package, text: &str) -> Result<String> {
    let Some(name) = text.strip_prefix("ref(").and_then(|rest| rest.strip_suffix(')')) else {
        return Ok(text.to_owned());
    };
    let constant = package
        .constants
        .iter()
        .find(|c| c.name == name)
        .ok_or_else(|| format!("no constant {name}"))?;
    Ok(format!("{:?}", constant.value))
}
