//! Modules that import what the host offers, with bodies that nobody wrote.
//!
//! What the host offers is read from the guest `driver`, which uses nearly all of it: there is no second list to keep. A module
//! calls a function of the host where it happens to have numbers of the right kinds, so that most arguments are nonsense:
//! handles that do not exist, addresses outside of memory, lengths of four gigabytes.

use anyhow::Context;
use arbitrary::{Arbitrary as _, Unstructured};
use wasm_smith::{Config, InstructionKind, InstructionKinds, Module};
use wit_component::{ComponentEncoder, DecodedWasm, StringEncoding, decode, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve, WorldId, WorldItem, WorldKey};

/// How often a generated module may go around a loop or call a function.
const TURNS: u32 = 1000;

/// The functions of WASI 0.1 with their types: `i` is a number of 32 bits, `I` one of 64. All answer with an `i` but the last.
const PREVIEW1: [(&str, &str); 45] = [
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_prestat_get", "ii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
    ("proc_exit", "i"),
];

/// Makes modules for this host.
pub struct Modules {
    resolve: Resolve,
    world: WorldId,
    imports: Vec<u8>,
    exports: Vec<u8>,
    preview1: Vec<u8>,
    start: Vec<u8>,
}

impl Modules {
    /// Reads what the host offers.
    ///
    /// # Errors
    /// When the guest that it is read from is no component; a defect of this crate.
    pub fn new() -> anyhow::Result<Self> {
        let DecodedWasm::Component(resolve, world) = decode(&coracle_images::driver())? else {
            anyhow::bail!("the driver is no component");
        };
        let imports = dummy_module(&resolve, world, ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync));
        let run = run_export(&resolve, world).context("the driver has no entry point")?;
        let exports = wat::parse_str(format!(
            r#"(module
                (memory (export "memory") 2 64)
                (func (export "{run}#run") (result i32) unreachable)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable))"#
        ))?;
        Ok(Self {
            resolve,
            world,
            imports,
            exports,
            preview1: wat::parse_str(preview1())?,
            start: wat::parse_str(r#"(module (memory (export "memory") 2 64) (func (export "_start")))"#)?,
        })
    }

    /// A component of WASI 0.2, which may import all that there is.
    ///
    /// # Errors
    /// When the bytes make none.
    pub fn component(&self, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut module = self.module(bytes, &self.imports, &self.exports)?;
        embed_component_metadata(&mut module, &self.resolve, self.world, StringEncoding::UTF8)?;
        ComponentEncoder::default().module(&module)?.encode()
    }

    /// A module of WASI 0.1.
    ///
    /// # Errors
    /// When the bytes make none.
    pub fn preview1(&self, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.module(bytes, &self.preview1, &self.start)
    }

    fn module(&self, bytes: &[u8], imports: &[u8], exports: &[u8]) -> anyhow::Result<Vec<u8>> {
        generate(bytes, Some(imports.to_vec()), exports.to_vec())
    }
}

impl std::fmt::Debug for Modules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Modules").finish_non_exhaustive()
    }
}

/// Makes a module that ends by itself.
pub(crate) fn generate(bytes: &[u8], imports: Option<Vec<u8>>, exports: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Unstructured::new(bytes);
    let mut config = Config::arbitrary(&mut bytes)?;
    config.max_imports = if imports.is_some() { 200 } else { 0 };
    // All of a kind that are offered are imported, so that there is something to call.
    config.min_imports = 0;
    config.available_imports = imports;
    config.exports = Some(exports);
    config.allowed_instructions = InstructionKinds::new(&[
        InstructionKind::Numeric,
        InstructionKind::NumericInt,
        InstructionKind::Reference,
        InstructionKind::Parametric,
        InstructionKind::Variable,
        InstructionKind::Table,
        InstructionKind::Memory,
        InstructionKind::MemoryInt,
        InstructionKind::Control,
        InstructionKind::Aggregate,
    ]);
    config.allow_invalid_funcs = false;
    config.disallow_traps = false;
    // Both sides of a comparison have to see the same bits.
    config.canonicalize_nans = true;
    config.relaxed_simd_enabled = false;
    // What the engine does not take.
    config.memory64_enabled = false;
    config.threads_enabled = false;
    config.shared_everything_threads_enabled = false;
    config.exceptions_enabled = false;
    config.gc_enabled = false;
    config.custom_descriptors_enabled = false;
    config.custom_page_sizes_enabled = false;
    config.wide_arithmetic_enabled = false;
    config.max_memories = 1;
    config.max_tables = config.max_tables.min(4);
    config.max_table_elements = 10_000;
    config.max_memory32_bytes = 8 << 20;
    config.max_instructions = config.max_instructions.max(400);
    let mut module = Module::new(config, &mut bytes)?;
    module
        .ensure_termination(TURNS)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(module.to_bytes())
}

fn run_export(resolve: &Resolve, world: WorldId) -> Option<String> {
    let world = resolve.worlds.get(world)?;
    world.exports.iter().find_map(|(key, item)| match (key, item) {
        (key @ WorldKey::Interface(_), WorldItem::Interface { .. }) => Some(resolve.name_world_key(key)),
        _ => None,
    })
}

fn preview1() -> String {
    let import = |(name, params): &(&str, &str)| {
        let params: String = params
            .chars()
            .map(|kind| if kind == 'i' { " i32" } else { " i64" })
            .collect();
        let result = if *name == "proc_exit" { "" } else { "(result i32)" };
        format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func (param{params}) {result}))")
    };
    format!("(module {})", PREVIEW1.iter().map(import).collect::<String>())
}
