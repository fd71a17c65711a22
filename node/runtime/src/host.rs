//! What a guest meets of the host: the state behind its imports, and the list of imports there are.
//!
//! Interfaces are linked one by one and nothing shadows anything, so a new version of the WASI library cannot open a door on its
//! own. The library's sockets are not linked at all; ours lead to the pod's network. Each default is closed: no file, no
//! variable, no stream of the host's process.

pub(crate) mod stdio;

use std::sync::Arc;

use coracle_net::PodNet;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::p2::bindings;
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::engine::GuestEngine;
use crate::files::{self, Files, FilesView, Mounts};
use crate::http::outgoing::Outgoing;
use crate::http::weights::{self, Weights};
use crate::limits;
use crate::memory::{MemoryAccount, StoreMemory};
use crate::process::{self, Me};
use crate::repeat;
use crate::sockets::{self, NetView};
use crate::spec::ContainerSpec;

/// The import of WASI 0.1 modules.
pub(crate) const PREVIEW1: &str = "wasi_snapshot_preview1";

/// Our own interfaces that a component may import.
pub(crate) const OWN: [&str; 3] = [
    "coracle:process/processes@0.1.0",
    "coracle:process/streams@0.1.0",
    "coracle:process/terminal@0.1.0",
];

/// The interfaces of the standard that a component may import, all in version 0.2.
pub(crate) const INTERFACES: [&str; 29] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// The RuntimeClass under which components of WASI 0.3 are to run once they can; docs/decisions/0005 says why they cannot yet.
pub(crate) const NEWER_CLASS: &str = "coracle-wasi-0.3";

/// Whether the version is one that we speak: 0.2 with any patch, as the standard's compatibility rule has it.
pub(crate) fn speaks(version: &str) -> bool {
    version
        .strip_prefix("0.2.")
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a container offers what an import asks for.
pub(crate) fn provides(import: &str) -> bool {
    OWN.contains(&import)
        || import
            .split_once('@')
            .is_some_and(|(name, version)| INTERFACES.contains(&name) && speaks(version))
}

/// The state of one instance of a guest.
pub(crate) struct Host {
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    files: Files,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    net: Arc<PodNet>,
    pub(crate) account: Arc<MemoryAccount>,
    /// What its HTTP messages are charged.
    pub(crate) weights: Weights,
    memory: StoreMemory,
    me: Arc<Me>,
    /// The fuel that it had when it was looked at last.
    fuel_seen: u64,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outgoing,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

impl Host {
    pub(crate) fn processes(&mut self) -> process::View<'_> {
        process::View {
            table: &mut self.table,
            me: &self.me,
        }
    }

    pub(crate) fn files(&mut self) -> FilesView<'_> {
        FilesView {
            files: &mut self.files,
            table: &mut self.table,
        }
    }

    /// Begins to count with this much fuel.
    pub(crate) fn fuelled(&mut self, fuel: u64) {
        self.fuel_seen = fuel;
    }

    /// How much was used since the last look.
    pub(crate) fn fuel_used(&mut self, left: u64) -> u64 {
        std::mem::replace(&mut self.fuel_seen, left).saturating_sub(left)
    }

    pub(crate) fn net(&mut self) -> NetView<'_> {
        NetView {
            pod: &self.net,
            account: &self.account,
            table: &mut self.table,
        }
    }
}

/// What is one instance's own: arguments, environment, place, and its streams as a process.
pub(crate) struct Streams<'a> {
    pub(crate) args: &'a [String],
    /// None: the container's.
    pub(crate) env: Option<&'a [(String, String)]>,
    pub(crate) directory: Option<&'a str>,
    pub(crate) me: Arc<Me>,
}

/// Makes the store of one instance, with every limit set.
pub(crate) fn store(
    engine: &GuestEngine,
    spec: &ContainerSpec,
    mounts: &Arc<Mounts>,
    io: Streams<'_>,
    account: &Arc<MemoryAccount>,
    outgoing: Outgoing,
) -> Store<Host> {
    let mut wasi = WasiCtx::builder();
    wasi.args(io.args)
        .envs(io.env.unwrap_or(&spec.env))
        .max_random_size(limits::RANDOM_BYTES);
    let directory = io.directory.unwrap_or(&spec.work_dir);
    if !directory.is_empty() {
        wasi.initial_cwd(directory);
    }
    if let Some(seed) = spec.seed {
        repeat::fix(&mut wasi, seed);
    }
    if let Some(source) = io.me.source(0) {
        wasi.stdin(source);
    }
    if let Some(sink) = io.me.sink(1) {
        wasi.stdout(sink);
    }
    if let Some(sink) = io.me.sink(2) {
        wasi.stderr(sink);
    }

    let mut table = ResourceTable::new();
    table.set_max_capacity(limits::HOST_OBJECTS);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(limits::HTTP_FIELD_BYTES);

    let host = Host {
        table,
        wasi: wasi.build(),
        files: Files::new(mounts.clone(), spec.files.clone(), account.clone()),
        http,
        outgoing,
        net: spec.net.clone(),
        account: account.clone(),
        weights: Weights::default(),
        memory: StoreMemory::new(account.clone()),
        me: io.me,
        fuel_seen: 0,
    };
    let mut store = Store::new(&engine.engine, host);
    store.limiter(|host| &mut host.memory);
    store.set_max_component_handles(limits::COMPONENT_HANDLES);
    store.set_hostcall_fuel(limits::HOSTCALL_BYTES);
    store.set_epoch_deadline(1);
    store
}

/// Links everything that a guest may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    io(l)?;
    cli(l)?;

    use bindings::{clocks, random};
    clocks::wall_clock::add_to_linker::<Host, WasiClocks>(l, Host::clocks)?;
    clocks::monotonic_clock::add_to_linker::<Host, WasiClocks>(l, Host::clocks)?;
    files::add_to_linker(l)?;
    random::random::add_to_linker::<Host, WasiRandom>(l, Host::random)?;
    random::insecure::add_to_linker::<Host, WasiRandom>(l, Host::random)?;
    random::insecure_seed::add_to_linker::<Host, WasiRandom>(l, Host::random)?;

    sockets::add_to_linker(l)?;
    process::add_to_linker(l)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(l)?;
    weights::add_to_linker(l)?;
    Ok(linker)
}

struct IoTable;

impl HasData for IoTable {
    type Data<'a> = &'a mut ResourceTable;
}

fn io(l: &mut Linker<Host>) -> wasmtime::Result<()> {
    use bindings::io::{error, poll, streams};
    error::add_to_linker::<Host, IoTable>(l, |host| &mut host.table)?;
    poll::add_to_linker::<Host, IoTable>(l, |host| &mut host.table)?;
    streams::add_to_linker::<Host, IoTable>(l, |host| &mut host.table)
}

fn cli(l: &mut Linker<Host>) -> wasmtime::Result<()> {
    use bindings::cli;
    cli::exit::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::environment::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::stdin::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::stdout::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::stderr::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::terminal_input::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::terminal_output::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::terminal_stdin::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::terminal_stdout::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::terminal_stderr::add_to_linker::<Host, WasiCli>(l, Host::cli)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list and the linker say the same: what is listed links, what is not does not.
    #[test]
    fn the_list_of_interfaces_is_what_is_linked() {
        let engine = Engine::default();
        let linker = linker(&engine).unwrap();
        // Nothing may be defined twice, so a name that is taken is one that is linked.
        let linked = |name: &str| {
            let mut linker = linker.clone();
            linker
                .root()
                .func_wrap(&format!("{name}@0.2.12"), |_, (): ()| Ok(()))
                .is_err()
        };
        let missing: Vec<_> = INTERFACES.into_iter().filter(|name| !linked(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        for other in [
            "wasi:keyvalue/store",
            "wasi:tls/types",
            "wasi:config/store",
            "wasi:cli/run",
        ] {
            assert!(!linked(other) && !provides(&format!("{other}@0.2.12")), "{other}");
        }
    }

    #[test]
    fn versions_are_compatible_within_0_2() {
        assert!(provides("wasi:io/poll@0.2.0") && provides("wasi:io/poll@0.2.99"));
        for other in [
            "wasi:io/poll",
            "wasi:io/poll@0.3.0",
            "wasi:io/poll@0.2.0-rc-2023-11-10",
            "wasi:io/poll@0.2.",
        ] {
            assert!(!provides(other), "{other}");
        }
    }
}
