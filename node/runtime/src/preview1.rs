//! WASI 0.1 modules as components, so that one linker and one set of limits serve both.
//!
//! The published adapter translates all but one thing: it ends a program by `exit`, which says "ok" or "failed", and a job's
//! exact code is what people test for. So the module's `proc_exit` is pointed past the adapter at `exit-with-code`. To the
//! machine both are functions of one 32-bit number that do not return; only the import's name changes.

mod go;

use anyhow::Context;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as ADAPTER,
};
use wasmparser::{Imports, Parser, Payload, SectionLimited, TypeRef};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The interface that the exit goes to, in the adapter's version: the encoder unites the two imports.
const EXIT: &str = "wasi:cli/exit@0.2.12";

/// What the encoder must know about [`EXIT`].
const EXIT_WORLD: &str = "
    package wasi:cli@0.2.12;
    interface exit {
        exit: func(status: result);
        exit-with-code: func(status-code: u8);
    }
    world exiting { import exit; }
";

/// What an import of a function is marked with.
const FUNCTION: u8 = 0;

/// What changes whenever the same module becomes another component, so that code compiled before is not taken for it.
pub(crate) const VERSION: u32 = 2;

/// Makes a component of a module.
pub(crate) fn wrap(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let module = with_exact_exit(module)?;
    let mut module = go::with_room(&module)?.unwrap_or(module);
    let mut resolve = Resolve::default();
    let package = resolve.push_source("exit.wit", EXIT_WORLD)?;
    let world = resolve.select_world(&[package], None)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default()
        .module(&module)?
        .adapter(NAME, ADAPTER)?
        .encode()
}

/// The module with the import of `proc_exit` renamed; everything else is copied as it stands.
fn with_exact_exit(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut out = module.get(..8).context("the module ends in its header")?.to_vec();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        let Some((id, range)) = payload.as_section() else {
            continue;
        };
        let renamed;
        let content = if let Payload::ImportSection(imports) = payload {
            renamed = rename(imports)?;
            &renamed
        } else {
            module.get(range).context("a section ends after the module")?
        };
        out.push(id);
        number(&mut out, content.len());
        out.extend_from_slice(content);
    }
    Ok(out)
}

/// The content of an import section, with the one entry changed.
fn rename(imports: SectionLimited<'_, Imports<'_>>) -> anyhow::Result<Vec<u8>> {
    let mut entries = Vec::new();
    let mut count = 0;
    for import in imports.into_imports() {
        let import = import?;
        let TypeRef::Func(function_type) = import.ty else {
            anyhow::bail!("the import {}.{} is no function", import.module, import.name);
        };
        let (module, name) = match (import.module, import.name) {
            (NAME, "proc_exit") => (EXIT, "exit-with-code"),
            same => same,
        };
        for text in [module, name] {
            number(&mut entries, text.len());
            entries.extend_from_slice(text.as_bytes());
        }
        entries.push(FUNCTION);
        number(&mut entries, function_type as usize);
        count += 1;
    }
    let mut content = Vec::with_capacity(entries.len() + 5);
    number(&mut content, count);
    content.append(&mut entries);
    Ok(content)
}

/// Writes a number as the format has it: seven bits a byte, the lowest first.
pub(crate) fn number(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_exit_changes() {
        let module = wat::parse_str(
            r#"(module
                (type $code (func (param i32)))
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (type $code)))
                (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
                (memory (export "memory") 1)
                (func (export "_start") (drop (call $yield)) (call $exit (i32.const 7))))"#,
        )
        .unwrap();
        let changed = with_exact_exit(&module).unwrap();
        wasmparser::Validator::new().validate_all(&changed).unwrap();
        let names = |module: &[u8]| {
            let mut names = Vec::new();
            for payload in Parser::new(0).parse_all(module) {
                if let Payload::ImportSection(imports) = payload.unwrap() {
                    names.extend(
                        imports
                            .into_imports()
                            .map(|i| i.map(|i| format!("{} {}", i.module, i.name)).unwrap()),
                    );
                }
            }
            names
        };
        assert_eq!(
            names(&changed),
            [&format!("{EXIT} exit-with-code"), "wasi_snapshot_preview1 sched_yield"]
        );
        let component = wrap(&module).unwrap();
        assert!(wasmparser::Parser::is_component(&component));
    }

    #[test]
    fn a_module_that_never_exits_is_wrapped_too() {
        let module = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).unwrap();
        assert_eq!(with_exact_exit(&module).unwrap(), module);
        wrap(&module).unwrap();
    }

    proptest! {
        #[test]
        fn numbers_read_back(value in any::<u32>()) {
            let mut out = Vec::new();
            number(&mut out, value as usize);
            prop_assert_eq!(wasmparser::BinaryReader::new(&out, 0).read_var_u32().unwrap(), value);
        }
    }
}
