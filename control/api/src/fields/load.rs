//! Reads the facts table into memory. The layout is that of [`super::format`].
//!
//! A table that breaks the layout anywhere is refused whole; nothing here may panic on one.

use super::format::{VERSION, composite, field, scalar, strategy, structure};
use super::{Facts, Field, ListType, MapType, PatchStrategy, Shape, Struct, StructRef, Type, TypeRef};
use std::io::Read;

/// Most bytes a table may unfold to. The real one has about 300 KiB; this only stops a broken build early.
const TABLE_LIMIT_BYTES: u64 = 8 * 1024 * 1024;

/// Deepest nesting of embedded structs. Kubernetes has two.
const EMBED_LIMIT: usize = 8;

/// Why a table was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("the facts table does not inflate: {0}")]
    Inflate(#[from] std::io::Error),
    #[error("the facts table has version {0}")]
    Version(u64),
    #[error("the facts table ends early or points outside itself")]
    Broken,
}

/// Reads a compressed table.
pub(super) fn facts(compressed: &[u8]) -> Result<Facts, LoadError> {
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(compressed)
        .take(TABLE_LIMIT_BYTES)
        .read_to_end(&mut bytes)?;
    // The table lives as long as the process, so its strings can be borrowed for ever.
    let mut reader = Reader {
        rest: Box::leak(bytes.into_boxed_slice()),
        strings: Vec::new(),
    };
    let version = reader.number()?;
    if version != VERSION {
        return Err(LoadError::Version(version));
    }
    reader.strings = reader.string_list()?;
    let types = reader.types()?;
    let structs = reader.structs(types.len())?;
    finish(types, structs)
}

/// Resolves named types and embedded structs, which may stand anywhere in the table.
fn finish(mut types: Vec<Type>, mut structs: Vec<Struct>) -> Result<Facts, LoadError> {
    for kind in &types {
        if let Shape::Struct(StructRef(index)) = kind.shape
            && usize::from(index) >= structs.len()
        {
            return Err(LoadError::Broken);
        }
    }
    resolve_names(&mut types)?;
    let flat: Vec<Option<&'static [Field]>> = structs
        .iter()
        .map(|s| {
            if !s.declared.iter().any(|f| f.inline) {
                return Ok(None);
            }
            let mut fields = Vec::new();
            flatten(s.declared, &types, &structs, EMBED_LIMIT, &mut fields)?;
            Ok::<_, LoadError>(Some(&*fields.leak()))
        })
        .collect::<Result<_, _>>()?;
    for (s, flat) in structs.iter_mut().zip(flat) {
        s.flat = flat.unwrap_or(s.declared);
    }
    let count = u16::try_from(structs.len()).map_err(|_| LoadError::Broken)?;
    let mut by_name: Vec<u16> = (0..count).collect();
    by_name.sort_by_key(|index| structs.get(usize::from(*index)).map_or("", |s| s.name));
    Ok(Facts {
        structs,
        types,
        by_name,
    })
}

/// Gives named types and pointers the shape of what they stand for. The writer puts those first.
fn resolve_names(types: &mut [Type]) -> Result<(), LoadError> {
    for index in 0..types.len() {
        let (before, rest) = types.split_at_mut(index);
        let Some(this) = rest.first_mut() else { break };
        if let Shape::Map(TypeRef(inner)) = this.shape
            && (this.pointer || !this.name.is_empty())
        {
            let inner = before.get(usize::from(inner)).ok_or(LoadError::Broken)?;
            this.shape = inner.shape;
            if this.values.is_empty() {
                this.values = inner.values;
            }
        }
    }
    Ok(())
}

fn flatten(
    declared: &[Field],
    types: &[Type],
    structs: &[Struct],
    depth: usize,
    out: &mut Vec<Field>,
) -> Result<(), LoadError> {
    for field in declared {
        if !field.inline {
            out.push(*field);
            continue;
        }
        let shape = types.get(usize::from(field.kind.0)).map(|t| t.shape);
        let Some(Shape::Struct(StructRef(inner))) = shape else {
            return Err(LoadError::Broken);
        };
        let inner = structs.get(usize::from(inner)).ok_or(LoadError::Broken)?;
        let depth = depth.checked_sub(1).ok_or(LoadError::Broken)?;
        flatten(inner.declared, types, structs, depth, out)?;
    }
    Ok(())
}

struct Reader {
    rest: &'static [u8],
    strings: Vec<&'static str>,
}

impl Reader {
    fn byte(&mut self) -> Result<u8, LoadError> {
        let (first, rest) = self.rest.split_first().ok_or(LoadError::Broken)?;
        self.rest = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, LoadError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(LoadError::Broken)
    }

    /// A count of things that take at least one byte each, so a broken count cannot make us reserve memory.
    fn count(&mut self) -> Result<usize, LoadError> {
        let count = usize::try_from(self.number()?).map_err(|_| LoadError::Broken)?;
        if count > self.rest.len() {
            Err(LoadError::Broken)
        } else {
            Ok(count)
        }
    }

    fn string_list(&mut self) -> Result<Vec<&'static str>, LoadError> {
        let count = self.count()?;
        let lengths = (0..count).map(|_| self.count()).collect::<Result<Vec<_>, _>>()?;
        lengths
            .into_iter()
            .map(|length| {
                let (head, rest) = self.rest.split_at_checked(length).ok_or(LoadError::Broken)?;
                self.rest = rest;
                std::str::from_utf8(head).map_err(|_| LoadError::Broken)
            })
            .collect()
    }

    fn string_at(&self, index: u64) -> Result<&'static str, LoadError> {
        let index = usize::try_from(index).map_err(|_| LoadError::Broken)?;
        self.strings.get(index).copied().ok_or(LoadError::Broken)
    }

    fn name(&mut self) -> Result<&'static str, LoadError> {
        let index = self.number()?;
        self.string_at(index)
    }

    fn optional_name(&mut self) -> Result<Option<&'static str>, LoadError> {
        match self.number()?.checked_sub(1) {
            None => Ok(None),
            Some(index) => self.string_at(index).map(Some),
        }
    }

    fn names(&mut self) -> Result<&'static [&'static str], LoadError> {
        let count = self.count()?;
        if count == 0 {
            return Ok(&[]);
        }
        let names = (0..count).map(|_| self.name()).collect::<Result<Vec<_>, _>>()?;
        Ok(names.leak())
    }

    fn type_ref(&mut self, limit: usize) -> Result<TypeRef, LoadError> {
        let index = self.number()?;
        let known = usize::try_from(index).is_ok_and(|index| index < limit);
        let index = u16::try_from(index).map_err(|_| LoadError::Broken)?;
        if known {
            Ok(TypeRef(index))
        } else {
            Err(LoadError::Broken)
        }
    }

    fn types(&mut self) -> Result<Vec<Type>, LoadError> {
        let count = self.count()?;
        (0..count).map(|_| self.one_type(count)).collect()
    }

    fn one_type(&mut self, count: usize) -> Result<Type, LoadError> {
        let mut kind = Type {
            shape: Shape::Any,
            name: "",
            pointer: false,
            message: false,
            values: &[],
        };
        kind.shape = match self.byte()? {
            composite::STRUCT => {
                Shape::Struct(StructRef(u16::try_from(self.number()?).map_err(|_| LoadError::Broken)?))
            }
            composite::SLICE => Shape::Slice(self.type_ref(count)?),
            composite::MAP => Shape::Map(self.type_ref(count)?),
            composite::NAMED => {
                kind.name = self.name()?;
                // Until names are resolved the shape only carries the index.
                let inner = Shape::Map(self.type_ref(count)?);
                kind.message = self.number()? == 1;
                kind.values = self.names()?;
                inner
            }
            composite::POINTER => {
                kind.pointer = true;
                Shape::Map(self.type_ref(count)?)
            }
            tag => scalar_shape(tag).ok_or(LoadError::Broken)?,
        };
        Ok(kind)
    }

    fn structs(&mut self, types: usize) -> Result<Vec<Struct>, LoadError> {
        let count = self.count()?;
        (0..count)
            .map(|_| {
                let name = self.name()?;
                let group = self.optional_name()?;
                let flags = self.number()?;
                let fields = self.count()?;
                let declared: &'static [Field] = (0..fields)
                    .map(|_| self.field(types))
                    .collect::<Result<Vec<_>, _>>()?
                    .leak();
                let atomic = flags & structure::ATOMIC != 0;
                let kind = flags & structure::KIND != 0;
                Ok(Struct {
                    name,
                    group,
                    atomic,
                    kind,
                    declared,
                    flat: declared,
                })
            })
            .collect()
    }

    fn field(&mut self, types: usize) -> Result<Field, LoadError> {
        let json = self.name()?;
        let number = u32::try_from(self.number()?).map_err(|_| LoadError::Broken)?;
        let flags = self.number()?;
        let kind = self.type_ref(types)?;
        let list_type = match self.number()? {
            1 => Some(ListType::Atomic),
            2 => Some(ListType::Set),
            3 => Some(ListType::Map),
            _ => None,
        };
        let map_type = match self.number()? {
            1 => Some(MapType::Atomic),
            2 => Some(MapType::Granular),
            _ => None,
        };
        let map_keys = self.names()?;
        let merge_key = self.optional_name()?.unwrap_or_default();
        let bits = self.number()?;
        let patch_strategy = PatchStrategy {
            merge: bits & strategy::MERGE != 0,
            replace: bits & strategy::REPLACE != 0,
            retain_keys: bits & strategy::RETAIN_KEYS != 0,
        };
        let default = self.optional_name()?.unwrap_or_default();
        Ok(Field {
            json,
            number,
            kind,
            pointer: flags & field::POINTER != 0,
            inline: flags & field::INLINE != 0,
            omit_empty: flags & field::OMIT_EMPTY != 0,
            omit_zero: flags & field::OMIT_ZERO != 0,
            required: flags & field::REQUIRED != 0,
            list_type,
            map_type,
            map_keys,
            merge_key,
            patch_strategy,
            default,
        })
    }
}

fn scalar_shape(tag: u8) -> Option<Shape> {
    Some(match tag {
        scalar::STRING => Shape::String,
        scalar::BOOL => Shape::Bool,
        scalar::INT32 => Shape::Int32,
        scalar::INT64 => Shape::Int64,
        scalar::FLOAT64 => Shape::Float64,
        scalar::BYTES => Shape::Bytes,
        scalar::ANY => Shape::Any,
        scalar::QUANTITY => Shape::Quantity,
        scalar::TIME => Shape::Time,
        scalar::MICRO_TIME => Shape::MicroTime,
        scalar::DURATION => Shape::Duration,
        scalar::INT_OR_STRING => Shape::IntOrString,
        scalar::RAW_EXTENSION => Shape::RawExtension,
        scalar::FIELDS_V1 => Shape::FieldsV1,
        scalar::JSON => Shape::Json,
        scalar::SCHEMA_OR_BOOL => Shape::SchemaOrBool,
        scalar::SCHEMA_OR_ARRAY => Shape::SchemaOrArray,
        scalar::SCHEMA_OR_STRINGS => Shape::SchemaOrStrings,
        _ => return None,
    })
}
