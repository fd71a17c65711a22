//! What a file is: a component that runs, one that serves HTTP, a WASI 0.1 module, or nothing that a container can be.
//!
//! Looking is cheap and compiles nothing. A refusal names the thing that is wrong, in the words of the person who has to mend
//! it. Machine code is never accepted from an image: it would run outside the sandbox.

use std::collections::HashSet;
use std::sync::Arc;

use wasmparser::{Encoding, ExternalKind, Parser, Payload};
use wasmtime::Engine;
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::engine::{EngineError, GuestEngine, Metering};
use crate::exit::plain;
use crate::host::{self, Host};
use crate::{limits, preview1, unroll};

/// The function that a WASI 0.1 program begins with.
const START: &str = "_start";

/// How a module is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleKind {
    /// It has a `main`: `wasi:cli/run`, or `_start` of WASI 0.1.
    Command,
    /// It answers requests: `wasi:http/incoming-handler`. The node listens for it.
    Http,
}

/// What a module says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleInfo {
    /// How it is run.
    pub kind: ModuleKind,
    /// The interfaces that it imports, in the file's order.
    pub imports: Vec<String>,
    /// A core module of WASI 0.1, which is wrapped into a component before it is compiled.
    pub preview1: bool,
}

/// A module cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is something else.
    #[error("this is not a WebAssembly module: {0}")]
    NotWasm(String),
    /// The file begins as WebAssembly and then breaks the rules.
    #[error("this WebAssembly module is not valid: {0}")]
    Invalid(String),
    /// The module needs something that no container has.
    #[error("this {what} imports {import}, which Coracle does not provide{hint}")]
    MissingImport {
        /// `component` or `module`.
        what: &'static str,
        /// The interface, with its version.
        import: String,
        /// More about it, after a semicolon; may be empty.
        hint: String,
    },
    /// A component of a WASI that is newer than ours.
    #[error(
        "this component was built for WASI 0.3 ({name}), which would need the RuntimeClass {class}, and this version of Coracle has none of that name: build the program for WASI 0.2, as the target wasm32-wasip2 does"
    )]
    Newer {
        /// The interface of version 0.3 that it imports or exports.
        name: String,
        /// The RuntimeClass under which such components are to run once they can.
        class: &'static str,
    },
    /// The module is valid, but nothing that a container can run.
    #[error("this WebAssembly file cannot run as a container: {0}")]
    Unsupported(String),
    /// The module is larger than the node compiles.
    #[error("this module has {bytes} bytes; at most {limit_bytes} are compiled")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The compiler gave up.
    #[error("cannot compile this module: {0}")]
    Compile(String),
    /// The sandbox for metered modules could not be set up.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The runtime is being shut down.
    #[error("the runtime is shutting down")]
    Closed,
}

/// A compiled module, ready to be started any number of times.
pub struct Module {
    pub(crate) info: ModuleInfo,
    pub(crate) code: Code,
    pub(crate) engine: Arc<GuestEngine>,
}

/// Compiled code with its imports resolved.
pub(crate) enum Code {
    Command(CommandPre<Host>),
    Http(ProxyPre<Host>),
}

impl Module {
    /// What the module says about itself.
    pub fn info(&self) -> &ModuleInfo {
        &self.info
    }

    /// Whether it counts instructions, as a container with a fuel limit needs.
    pub fn metering(&self) -> Metering {
        self.engine.metering
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("info", &self.info)
            .field("metering", &self.metering())
            .finish_non_exhaustive()
    }
}

/// Looks at a file, without compiling it.
pub(crate) fn inspect(wasm: &[u8]) -> Result<ModuleInfo, LoadError> {
    if wasm.len() > limits::MODULE_BYTES {
        return Err(LoadError::TooLarge {
            bytes: wasm.len(),
            limit_bytes: limits::MODULE_BYTES,
        });
    }
    if Engine::detect_precompiled(wasm).is_some() {
        let why = "it is machine code that was compiled beforehand, which is never accepted from an image";
        return Err(LoadError::NotWasm(why.into()));
    }
    if !wasm.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm(foreign(wasm)));
    }
    let outline = Outline::read(wasm)?;
    match outline.component {
        true => component(outline),
        false => core_module(outline),
    }
}

/// The names at the outermost level of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interfaces {
    /// What it needs.
    pub imports: Vec<String>,
    /// What it offers.
    pub exports: Vec<String>,
}

/// What a component imports and exports, in the file's order; `None` of a core module, which has no interfaces.
///
/// # Errors
/// When it is nothing that a container can run.
pub fn interfaces(wasm: &[u8]) -> Result<Option<Interfaces>, LoadError> {
    inspect(wasm)?;
    let outline = Outline::read(wasm)?;
    Ok(outline.component.then_some(Interfaces {
        imports: outline.imports,
        exports: outline.exports,
    }))
}

/// Names a file that is no WebAssembly by its first bytes.
fn foreign(bytes: &[u8]) -> String {
    match bytes {
        [] => "the file is empty".into(),
        [0x7f, b'E', b'L', b'F', ..] => {
            let machine = match bytes.get(18) {
                Some(0x3e) => "linux/amd64",
                Some(0xb7) => "linux/arm64",
                _ => "Linux",
            };
            format!("it is a {machine} program; build it for wasm32-wasip2 instead")
        }
        [b'#', b'!', ..] => "it is a script".into(),
        [b'M', b'Z', ..] => "it is a Windows program".into(),
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] => "it is a macOS program".into(),
        [0x1f, 0x8b, ..] => "it is a gzip archive".into(),
        [b'(', ..] => "it looks like the text format; translate it with `wasm-tools parse`".into(),
        _ => "it does not begin with the bytes of one".into(),
    }
}

/// The names at the outermost level of a file.
#[derive(Debug, Default)]
struct Outline {
    component: bool,
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Outline {
    fn read(wasm: &[u8]) -> Result<Self, LoadError> {
        let invalid = |e: wasmparser::BinaryReaderError| LoadError::Invalid(e.to_string());
        let mut outline = Self::default();
        let mut seen = HashSet::new();
        let mut depth = 0usize;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.map_err(invalid)? {
                Payload::Version { encoding, .. } if depth == 0 => outline.component = encoding == Encoding::Component,
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                Payload::ComponentImportSection(section) => {
                    for import in section {
                        add(&mut outline.imports, import.map_err(invalid)?.name.name)?;
                    }
                }
                Payload::ComponentExportSection(section) => {
                    for export in section {
                        add(&mut outline.exports, export.map_err(invalid)?.name.name)?;
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let module = import.map_err(invalid)?.module;
                        if seen.insert(module) {
                            add(&mut outline.imports, module)?;
                        }
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.map_err(invalid)?;
                        // Some modules export every function they have; no other says what one is.
                        if export.kind == ExternalKind::Func && export.name == START {
                            add(&mut outline.exports, export.name)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    fn exports(&self, interface: &str) -> bool {
        self.exports.iter().any(|export| {
            export
                .split_once('@')
                .is_some_and(|(name, version)| name == interface && host::speaks(version))
        })
    }
}

/// Takes a name into an outline. A file of 128 MB has room for sixteen million of them, which are read before anybody knows
/// whether the file is worth it.
fn add(names: &mut Vec<String>, name: &str) -> Result<(), LoadError> {
    if names.len() >= limits::MODULE_NAMES {
        let what = format!("it imports or exports more than {} names", limits::MODULE_NAMES);
        return Err(LoadError::Invalid(what));
    }
    names.push(name.to_owned());
    Ok(())
}

/// What to do about an import that nobody has.
const PROVIDED: &str = "; it provides the worlds wasi:cli/command and wasi:http/proxy in version 0.2, and coracle:process: build the program for one of these";

fn component(outline: Outline) -> Result<ModuleInfo, LoadError> {
    let newer = |name: &&String| {
        let version = name.strip_prefix("wasi:").and_then(|name| name.split_once('@'));
        version.is_some_and(|(_, version)| version.starts_with("0.3."))
    };
    if let Some(name) = outline.imports.iter().chain(&outline.exports).find(newer) {
        return Err(LoadError::Newer {
            name: plain(name),
            class: host::NEWER_CLASS,
        });
    }
    if let Some(import) = outline.imports.iter().find(|import| !host::provides(import)) {
        let known = import
            .split_once('@')
            .filter(|(name, _)| host::INTERFACES.contains(name));
        let hint = match known {
            Some(_) => "; it provides version 0.2 of it".to_owned(),
            None => PROVIDED.to_owned(),
        };
        return Err(LoadError::MissingImport {
            what: "component",
            import: plain(import),
            hint,
        });
    }
    let kind = if outline.exports("wasi:cli/run") {
        ModuleKind::Command
    } else if outline.exports("wasi:http/incoming-handler") {
        ModuleKind::Http
    } else {
        let why = "the component exports neither wasi:cli/run@0.2 nor wasi:http/incoming-handler@0.2";
        return Err(LoadError::Unsupported(why.into()));
    };
    Ok(ModuleInfo {
        kind,
        imports: outline.imports,
        preview1: false,
    })
}

fn core_module(outline: Outline) -> Result<ModuleInfo, LoadError> {
    if let Some(import) = outline.imports.iter().find(|import| *import != host::PREVIEW1) {
        let hint = match import.as_str() {
            "wasi_unstable" => "; it is older than WASI 0.1, build the program anew",
            "wasi" | "wasix_32v1" => "; it needs threads or WASIX",
            "env" => "; it was not built for WASI",
            _ => PROVIDED,
        };
        return Err(LoadError::MissingImport {
            what: "module",
            import: plain(import),
            hint: hint.into(),
        });
    }
    if outline.exports.is_empty() {
        return Err(LoadError::Unsupported(
            "the module has no `_start`: it is a library, not a program".into(),
        ));
    }
    Ok(ModuleInfo {
        kind: ModuleKind::Command,
        imports: outline.imports,
        preview1: true,
    })
}

/// Compiles to code that the same engine can load. Takes about a second per megabyte and all cores.
pub(crate) fn compile(
    engine: &Engine,
    metering: Metering,
    info: &ModuleInfo,
    wasm: &[u8],
) -> Result<Vec<u8>, LoadError> {
    let wrapped;
    let mut wasm = wasm;
    if info.preview1 {
        wrapped = preview1::wrap(wasm).map_err(|e| LoadError::Invalid(format!("{e:#}")))?;
        wasm = &wrapped;
    }
    // What is not valid the compiler says in better words.
    let unrolled = (metering == Metering::Time)
        .then(|| unroll::unroll(wasm).ok())
        .flatten();
    let wasm = unrolled.as_deref().unwrap_or(wasm);
    engine
        .precompile_component(wasm)
        .map_err(|e| LoadError::Compile(format!("{e:#}")))
}

/// Resolves the imports of compiled code.
pub(crate) fn link(
    engine: Arc<GuestEngine>,
    info: ModuleInfo,
    component: &wasmtime::component::Component,
) -> Result<Module, LoadError> {
    // The names are known by now; what can still differ is a function's type or a function that is newer than ours.
    let unsupported = |e: wasmtime::Error| LoadError::Unsupported(format!("{e:#}"));
    let pre = engine.linker.instantiate_pre(component).map_err(unsupported)?;
    let code = match info.kind {
        ModuleKind::Command => Code::Command(CommandPre::new(pre).map_err(unsupported)?),
        ModuleKind::Http => Code::Http(ProxyPre::new(pre).map_err(unsupported)?),
    };
    Ok(Module { info, code, engine })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(wat: &str) -> Result<ModuleInfo, LoadError> {
        inspect(&wat::parse_str(wat).unwrap())
    }

    #[test]
    fn what_is_no_wasm_is_named() {
        let mut elf = vec![0x7f, b'E', b'L', b'F'];
        elf.resize(64, 0);
        elf[18] = 0x3e;
        let cases: [(&[u8], &str); 5] = [
            (b"", "empty"),
            (&elf, "linux/amd64"),
            (b"#!/bin/sh", "script"),
            (b"(module)", "text format"),
            (b"hello", "does not begin"),
        ];
        for (bytes, word) in cases {
            let error = inspect(bytes).unwrap_err();
            assert!(matches!(error, LoadError::NotWasm(_)));
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_torn_file_is_invalid() {
        let whole = wat::parse_str("(module (func (export \"_start\")))").unwrap();
        assert!(matches!(inspect(&whole[..whole.len() - 3]), Err(LoadError::Invalid(_))));
    }

    #[test]
    fn a_missing_interface_is_named_with_its_version() {
        let error = of(r#"(component (import "wasi:keyvalue/store@0.2.0" (instance)))"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this component imports wasi:keyvalue/store@0.2.0, which Coracle does not provide; it provides the worlds wasi:cli/command and wasi:http/proxy in version 0.2, and coracle:process: build the program for one of these"
        );
        let error = of(r#"(component (import "wasi:cli/stdout@0.3.0" (instance)))"#).unwrap_err();
        assert!(
            error.to_string().contains("built for WASI 0.3 (wasi:cli/stdout@0.3.0)"),
            "{error}"
        );
        let error = of(r#"(component (import "wasi:cli/stdout@0.1.0" (instance)))"#).unwrap_err();
        assert!(error.to_string().contains("provides version 0.2"), "{error}");
        let error = of(r#"(module (import "env" "abort" (func)) (func (export "_start")))"#).unwrap_err();
        assert!(error.to_string().contains("not built for WASI"), "{error}");
    }

    #[test]
    fn a_file_of_names_is_not_read_to_its_end() {
        // Each name is another one; of millions, comparing each with all others would take hours.
        let imports: String = (0..20_000)
            .map(|number| format!("(import \"{number}\" \"\" (func))"))
            .collect();
        let error = of(&format!("(module {imports} (func (export \"_start\")))")).unwrap_err();
        assert!(error.to_string().contains("more than 1000 names"), "{error}");
        let instances: String = (0..1001)
            .map(|number| format!("(import \"i{number}\" (instance))"))
            .collect();
        assert!(matches!(
            of(&format!("(component {instances})")),
            Err(LoadError::Invalid(_))
        ));
        // What is offered to nobody does not count.
        let exports: String = (0..2000)
            .map(|number| format!("(export \"f{number}\" (func 0))"))
            .collect();
        of(&format!("(module (func) {exports} (export \"_start\" (func 0)))")).unwrap();
    }

    #[test]
    fn a_name_that_is_missing_is_obeyed_by_nobody() {
        let error = of("(module (import \"\\1b[2Jname\" \"\" (func)) (func (export \"_start\")))").unwrap_err();
        assert!(error.to_string().contains("imports \u{fffd}[2Jname,"), "{error}");
    }

    #[test]
    fn kinds_are_told_by_exports() {
        let info =
            of(r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) (func (export "_start")))"#);
        assert_eq!(
            info.unwrap(),
            ModuleInfo {
                kind: ModuleKind::Command,
                imports: vec!["wasi_snapshot_preview1".into()],
                preview1: true
            }
        );
        assert!(matches!(of("(module)"), Err(LoadError::Unsupported(_))));
        assert!(matches!(of("(component)"), Err(LoadError::Unsupported(_))));
        let export = |name: &str| format!(r#"(component (instance $i) (export "{name}" (instance $i)))"#);
        assert_eq!(of(&export("wasi:cli/run@0.2.3")).unwrap().kind, ModuleKind::Command);
        assert_eq!(
            of(&export("wasi:http/incoming-handler@0.2.0")).unwrap().kind,
            ModuleKind::Http
        );
        assert!(matches!(
            of(&export("wasi:cli/run@0.3.0")),
            Err(LoadError::Newer { .. })
        ));
        assert!(matches!(
            of(&export("wasi:cli/run@0.1.0")),
            Err(LoadError::Unsupported(_))
        ));
    }

    #[test]
    fn imports_of_nested_modules_are_not_the_components() {
        let info = of(r#"(component
            (core module (import "env" "x" (func)))
            (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#);
        assert_eq!(info.unwrap().imports, Vec::<String>::new());
    }
}
