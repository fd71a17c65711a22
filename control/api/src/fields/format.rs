//! The layout of the facts table on disk, said once for its writer (the generator) and its reader.
//!
//! The table is a zlib stream of one byte string. Every integer in it is an unsigned LEB128 number; a *name* is an index
//! into the string list, and an *optional name* is that index plus one, or 0. In order:
//!
//! 1. [`VERSION`];
//! 2. the string list: a count, the byte length of each string, then the bytes of all of them;
//! 3. the type list: a count, then per type one tag of this module and its operands;
//! 4. the struct list: a count, then per struct its Go name (name), its API group (optional name, the empty group is the
//!    name of the empty string), its flags, a field count, and the fields;
//! 5. a field: JSON name (name), protobuf number (0: not in protobuf), flags, type index, list type, map type, map keys
//!    (count and names), merge key (optional name), patch strategy bits, default (optional name: JSON text).

/// The first integer of the table; a reader refuses any other.
pub const VERSION: u64 = 1;

/// Type tags without operands.
pub mod scalar {
    /// Go `string`.
    pub const STRING: u8 = 0;
    /// Go `bool`.
    pub const BOOL: u8 = 1;
    /// Go `int32`.
    pub const INT32: u8 = 2;
    /// Go `int64` and `int`.
    pub const INT64: u8 = 3;
    /// Go `float64`.
    pub const FLOAT64: u8 = 4;
    /// Go `[]byte`: base64 text in JSON.
    pub const BYTES: u8 = 5;
    /// Go `interface{}`: any JSON.
    pub const ANY: u8 = 6;
    /// `resource.Quantity`.
    pub const QUANTITY: u8 = 7;
    /// `metav1.Time`.
    pub const TIME: u8 = 8;
    /// `metav1.MicroTime`.
    pub const MICRO_TIME: u8 = 9;
    /// `metav1.Duration`.
    pub const DURATION: u8 = 10;
    /// `intstr.IntOrString`.
    pub const INT_OR_STRING: u8 = 11;
    /// `runtime.RawExtension`: an embedded object.
    pub const RAW_EXTENSION: u8 = 12;
    /// `metav1.FieldsV1`: an embedded field set.
    pub const FIELDS_V1: u8 = 13;
    /// `apiextensions.JSON`: an embedded JSON value.
    pub const JSON: u8 = 14;
    /// `apiextensions.JSONSchemaPropsOrBool`.
    pub const SCHEMA_OR_BOOL: u8 = 15;
    /// `apiextensions.JSONSchemaPropsOrArray`.
    pub const SCHEMA_OR_ARRAY: u8 = 16;
    /// `apiextensions.JSONSchemaPropsOrStringArray`.
    pub const SCHEMA_OR_STRINGS: u8 = 17;
}

/// Type tags with operands.
pub mod composite {
    /// Operand: struct index.
    pub const STRUCT: u8 = 32;
    /// Operand: type index of the elements.
    pub const SLICE: u8 = 33;
    /// Operand: type index of the values; keys are always strings.
    pub const MAP: u8 = 34;
    /// Operands: Go name (name), type index of what it stands for, 1 when protobuf wraps it in a message of its own
    /// with the elements as field 1, count and names of the values it is confined to.
    pub const NAMED: u8 = 35;
    /// `*T` inside a slice or map. Operand: type index.
    pub const POINTER: u8 = 36;
}

/// Bits of a field's flags.
pub mod field {
    /// Embedded: in JSON the inner fields stand in the outer object.
    pub const INLINE: u64 = 1;
    /// Go pointer: present and zero differ.
    pub const POINTER: u64 = 2;
    /// `omitempty`.
    pub const OMIT_EMPTY: u64 = 4;
    /// `omitzero`.
    pub const OMIT_ZERO: u64 = 8;
    /// OpenAPI lists it as required.
    pub const REQUIRED: u64 = 16;
}

/// Bits of a struct's flags.
pub mod structure {
    /// Server-side apply owns it as one value.
    pub const ATOMIC: u64 = 1;
    /// Has `kind` and `apiVersion`.
    pub const KIND: u64 = 2;
}

/// Bits of a field's patch strategy.
pub mod strategy {
    /// Lists merge by key or value.
    pub const MERGE: u64 = 1;
    /// The value is replaced as a whole.
    pub const REPLACE: u64 = 2;
    /// Keys that the patch does not name are cleared.
    pub const RETAIN_KEYS: u64 = 4;
}
