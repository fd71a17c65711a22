//! Writes the table in the layout of `coracle_api::fields::format`.

use crate::resolve::{Field, Table, Type};
use coracle_api::fields::format::{VERSION, composite};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::collections::HashMap;
use std::io::{self, Write};

/// The bytes of the table, compressed.
pub fn compressed(table: &Table) -> io::Result<Vec<u8>> {
    let mut writer = Writer::default();
    for_all(&mut writer, table);
    let mut head = Writer::default();
    head.number(VERSION);
    head.number(writer.strings.len() as u64);
    writer.strings.iter().for_each(|s| head.number(s.len() as u64));
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&head.bytes)?;
    for string in &writer.strings {
        encoder.write_all(string.as_bytes())?;
    }
    encoder.write_all(&writer.bytes)?;
    encoder.finish()
}

fn for_all(writer: &mut Writer, table: &Table) {
    writer.number(table.types.len() as u64);
    for kind in &table.types {
        writer.kind(kind);
    }
    writer.number(table.structs.len() as u64);
    for structure in &table.structs {
        writer.name(&structure.name);
        writer.optional_name(structure.group.as_deref());
        writer.number(structure.flags);
        writer.number(structure.fields.len() as u64);
        for field in &structure.fields {
            writer.field(field);
        }
    }
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    strings: Vec<String>,
    string_index: HashMap<String, u64>,
}

impl Writer {
    fn number(&mut self, mut value: u64) {
        while value > 0x7f {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn index_of(&mut self, text: &str) -> u64 {
        if let Some(index) = self.string_index.get(text) {
            return *index;
        }
        let index = self.strings.len() as u64;
        self.strings.push(text.to_owned());
        self.string_index.insert(text.to_owned(), index);
        index
    }

    fn name(&mut self, text: &str) {
        let index = self.index_of(text);
        self.number(index);
    }

    fn optional_name(&mut self, text: Option<&str>) {
        let index = text.map_or(0, |text| self.index_of(text) + 1);
        self.number(index);
    }

    fn names(&mut self, list: &[String]) {
        self.number(list.len() as u64);
        list.iter().for_each(|text| self.name(text));
    }

    fn tagged(&mut self, tag: u8, operand: usize) {
        self.bytes.push(tag);
        self.number(operand as u64);
    }

    fn kind(&mut self, kind: &Type) {
        match kind {
            Type::Scalar(tag) => self.bytes.push(*tag),
            Type::Struct(index) => self.tagged(composite::STRUCT, *index),
            Type::Slice(inner) => self.tagged(composite::SLICE, *inner),
            Type::Map(inner) => self.tagged(composite::MAP, *inner),
            Type::Pointer(inner) => self.tagged(composite::POINTER, *inner),
            Type::Named {
                name,
                inner,
                message,
                values,
            } => {
                self.bytes.push(composite::NAMED);
                self.name(name);
                self.number(*inner as u64);
                self.number(u64::from(*message));
                self.names(values);
            }
        }
    }

    fn field(&mut self, field: &Field) {
        self.name(&field.json);
        self.number(field.number);
        self.number(field.flags);
        self.number(field.kind as u64);
        self.number(field.list_type);
        self.number(field.map_type);
        self.names(&field.map_keys);
        self.optional_name(field.merge_key.as_deref());
        self.number(field.strategy);
        self.optional_name(field.default.as_deref());
    }
}
