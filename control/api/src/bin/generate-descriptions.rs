//! Makes the table of `coracle_api::describe` from the schemas of the crate `k8s-openapi`.
//!
//! The crate carries, as source text behind a feature that nobody here turns on, the OpenAPI schema of every type. This
//! program reads the texts out of it; nothing is compiled for that:
//!
//! ```text
//! generate-descriptions <k8s-openapi's src/v1_36> <descriptions.bin>
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Where a schema begins: the next line but one names the type.
const SCHEMA: &str = "fn schema_name()";
/// How deep the source text is indented where a type's own text stands, a field begins, and a field's text stands.
const TYPE: usize = 12;
const FIELD: usize = 16;
const FIELD_TEXT: usize = 20;

/// Texts by type and field; that of the type itself has an empty name.
type Texts = BTreeMap<String, BTreeMap<String, String>>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(sources), Some(target)) = (arguments.next(), arguments.next()) else {
        return Err("usage: generate-descriptions <k8s-openapi's src/v1_36> <descriptions.bin>".into());
    };
    let mut texts = Texts::new();
    read_all(&sources, &mut texts)?;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&serde_json::to_vec(&texts)?)?;
    let bytes = encoder.finish()?;
    fs::write(&target, &bytes)?;
    let fields: usize = texts.values().map(BTreeMap::len).sum();
    println!(
        "{}: {} types, {fields} texts, {} bytes",
        target.display(),
        texts.len(),
        bytes.len()
    );
    Ok(())
}

fn read_all(directory: &Path, texts: &mut Texts) -> Result<(), Box<dyn Error>> {
    let entries = fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path, texts)?;
        } else if let Some((name, found)) = read(&fs::read_to_string(&path)?) {
            texts.insert(name, found);
        }
    }
    Ok(())
}

/// The type of a file, and its texts; none for files without a schema, and for lists, whose schema is generic.
fn read(source: &str) -> Option<(String, BTreeMap<String, String>)> {
    let mut lines = source.lines().skip_while(|line| !line.contains(SCHEMA));
    let name = literal(lines.nth(1)?)?;
    let mut texts = BTreeMap::new();
    let mut field = String::new();
    for line in lines {
        let depth = line.len() - line.trim_start().len();
        let text = line.trim_start();
        match depth {
            TYPE if text.starts_with("\"description\": ") => {
                texts.insert(String::new(), after_colon(text)?);
            }
            FIELD if text.starts_with('"') && text.contains("\": ") => field = literal(text)?,
            FIELD_TEXT if text.starts_with("\"description\": ") => {
                texts.insert(field.clone(), after_colon(text)?);
            }
            FIELD_TEXT if text.contains("insert(\"description\".into(), ") => {
                let rest = text.split_once("insert(\"description\".into(), ")?.1;
                texts.insert(field.clone(), literal(rest)?);
            }
            _ => {}
        }
    }
    (!texts.is_empty()).then_some((name, texts))
}

fn after_colon(text: &str) -> Option<String> {
    literal(text.split_once("\": ")?.1)
}

/// The first string literal of a line.
fn literal(line: &str) -> Option<String> {
    let mut text = String::new();
    let mut letters = line.split_once('"')?.1.chars();
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => text.push(match letters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'u' => {
                    let code: String = letters.by_ref().skip(1).take_while(|letter| *letter != '}').collect();
                    char::from_u32(u32::from_str_radix(&code, 16).ok()?)?
                }
                other => other,
            }),
            other => text.push(other),
        }
    }
}
