//! One guest after the other in a pod of its own, with every limit on, and a look at the host after each.
//!
//! A run ends by itself, by its fuel, or because it is ended after [`PATIENCE`]; whichever it is, afterwards the pod's sockets,
//! files and memory are given back, the process has as many handles as before, the account of the volume is right, and what lies
//! outside of the mounts is as it was.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use coracle_net::{Fabric, FabricConfig, HostService, PodIdentity, PodNet};
use coracle_runtime::{
    Container, ContainerSpec, Exit, FindError, LoadError, LogSink, Metering, Module, Mount, PodFiles, Programs, Quota,
    Runtime, RuntimeConfig,
};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{handles, peer};

/// Bytes of memory that a guest may have.
pub const MEMORY_BYTES: u64 = 32 << 20;

/// Instructions that a guest may carry out: a tenth of a second or so.
pub const FUEL: u64 = 300_000_000;

/// How long a run may take before it is ended from outside: some wait for what never comes.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the host may take to have everything back, on a machine that does much else.
const SETTLING: Duration = Duration::from_secs(20);

/// Between two looks at what no event tells of: the handles of the process.
const LOOK: Duration = Duration::from_millis(2);

/// Bytes that the volume with a limit holds.
const VOLUME_BYTES: u64 = 1 << 20;

/// Bytes of output that are kept, and how many of it a run may write: nobody reads on.
const OUTPUT_BYTES: usize = 64 << 10;

/// What no guest may read, change or find.
const CANARY: &str = "the canary sings";

/// Something did not hold.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Violation(String);

impl Violation {
    pub(crate) fn told(what: String) -> Self {
        Self(what)
    }
}

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// How the guest ended.
    pub exit: Exit,
    /// The first of what it wrote.
    pub output: Vec<u8>,
    /// It did not end by itself.
    pub ended: bool,
}

/// A node without an API: a runtime, a network with a neighbour and a server in it, and a directory for each run.
pub struct Sandbox {
    tokio: tokio::runtime::Runtime,
    runtime: Runtime,
    fabric: Fabric,
    neighbour: Arc<PodNet>,
    _listener: coracle_net::Binding,
    _peer: HostService,
    cache: TempDir,
    /// The guest `driver`, by fuel and by time.
    drivers: [Arc<Module>; 2],
    runs: u64,
}

impl Sandbox {
    /// Sets all of it up and compiles the guest `driver`.
    ///
    /// # Errors
    /// When the machine does not let it.
    pub fn new() -> anyhow::Result<Self> {
        panics::watch();
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let cache = tempfile::tempdir()?;
        let runtime = Runtime::new(RuntimeConfig {
            worker_threads: 2,
            ..RuntimeConfig::new(cache.path().to_owned())
        })?;
        let fabric = Fabric::new(FabricConfig {
            connect_timeout: PATIENCE,
            ..FabricConfig::default()
        });
        let neighbour = fabric.add_pod(identity("neighbour"), vec![ip(3)])?;
        let listener = neighbour.bind(SocketAddr::new(ip(3), 1000))?;
        listener.listen(8)?;
        let drivers = tokio.block_on(async {
            let (by_fuel, by_time) = (coracle_images::driver(), coracle_images::driver());
            Ok::<_, LoadError>([
                runtime.load_metered("driver", by_fuel).await?,
                runtime.load("driver", by_time).await?,
            ])
        })?;
        Ok(Self {
            _peer: tokio.block_on(async { peer::serve(&fabric) })?,
            tokio,
            runtime,
            fabric,
            neighbour,
            _listener: listener,
            cache,
            drivers,
            runs: 0,
        })
    }

    /// Makes a module ready to run.
    ///
    /// # Errors
    /// When it is nothing that a container can run, which is what most bytes are.
    pub fn load(&self, wasm: &[u8], metering: Metering) -> Result<Arc<Module>, LoadError> {
        let digest: String = Sha256::digest(wasm).iter().map(|byte| format!("{byte:02x}")).collect();
        let wasm = Bytes::copy_from_slice(wasm);
        self.tokio.block_on(async {
            match metering {
                Metering::Time => self.runtime.load(&digest, wasm).await,
                Metering::Fuel => self.runtime.load_metered(&digest, wasm).await,
            }
        })
    }

    /// Removes the code of what was compiled; what is loaded stays.
    pub fn forget_code(&self) {
        let files = fs::read_dir(self.cache.path()).into_iter().flatten().flatten();
        for file in files {
            // What cannot be removed now is removed with the directory.
            let _ = fs::remove_file(file.path());
        }
    }

    /// Has the driver make the calls of one family that `program` says. Only by time may it start programs: what is metered by
    /// fuel is to do the same each time.
    ///
    /// # Errors
    /// What did not hold.
    pub fn drive(&mut self, family: &str, metering: Metering, program: &[u8]) -> Result<Run, Violation> {
        let hex: String = program.iter().map(|byte| format!("{byte:02x}")).collect();
        self.run(self.driver(metering), &["driver", family, "bytes", &hex])
    }

    fn driver(&self, metering: Metering) -> Arc<Module> {
        let [by_fuel, by_time] = &self.drivers;
        match metering {
            Metering::Fuel => by_fuel.clone(),
            Metering::Time => by_time.clone(),
        }
    }

    /// Runs a module to its end and looks at what is left.
    ///
    /// # Errors
    /// What did not hold.
    pub fn run(&mut self, module: Arc<Module>, args: &[&str]) -> Result<Run, Violation> {
        self.runs += 1;
        let before = Before {
            handles: handles(),
            neighbour: self.neighbour.sockets(),
        };
        let place = Place::new().map_err(|error| Violation(format!("cannot prepare a run: {error:#}")))?;
        let run = self.run_in(&place, module, args)?;
        place.check()?;
        drop(place);
        wait_until("as many handles as before", || match (handles(), before.handles) {
            (Some(now), Some(before)) if now > before => Err(format!("{now} and not {before}")),
            _ => Ok(()),
        })?;
        wait_until("the neighbour left alone", || {
            let now = self.neighbour.sockets();
            (now <= before.neighbour)
                .then_some(())
                .ok_or(format!("it has {now} sockets"))
        })?;
        match panics::take() {
            Some(panic) => Err(Violation(format!("the host panicked: {panic}"))),
            None => Ok(run),
        }
    }

    fn run_in(&self, place: &Place, module: Arc<Module>, args: &[&str]) -> Result<Run, Violation> {
        let fail = |what: &dyn std::fmt::Display| Violation(what.to_string());
        let name = format!("guest-{}", self.runs);
        let net = self
            .fabric
            .add_pod(identity(&name), vec![ip(2)])
            .map_err(|error| fail(&error))?;
        let output = Arc::new(Output::default());
        let metered = module.metering() == Metering::Fuel;
        let spec = self.spec(place, &net, &output, args, metered);
        let files = spec.files.clone();
        let container = self.runtime.start(module, spec).map_err(|error| fail(&error))?;
        let (exit, ended) = self.tokio.block_on(end(&container))?;
        let held = || {
            let (sockets, open, bytes) = (net.sockets(), files.open(), container.usage().memory_bytes);
            match (sockets, open, bytes) {
                (0, 0, 0) => Ok(()),
                _ => Err(format!(
                    "{sockets} sockets, {open} files and {bytes} bytes are held ({exit:?})"
                )),
            }
        };
        let settled = wait_until("everything given back", held);
        self.fabric.remove_pod(&identity(&name).uid);
        settled?;
        Ok(Run {
            exit,
            output: std::mem::take(&mut *output.0.lock()),
            ended,
        })
    }

    fn spec(
        &self,
        place: &Place,
        net: &Arc<PodNet>,
        output: &Arc<Output>,
        args: &[&str],
        metered: bool,
    ) -> ContainerSpec {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        ContainerSpec {
            env: vec![("HOSTNAME".into(), "guest".into())],
            work_dir: "/data".into(),
            mounts: place.mounts(),
            files: Arc::new(PodFiles::default()),
            memory_limit_bytes: Some(MEMORY_BYTES),
            fuel: metered.then_some(FUEL),
            seed: Some(7),
            programs: Some(Arc::new(Toolbox(self.driver(Metering::Time)))),
            ..ContainerSpec::new(args, net.clone(), output.clone())
        }
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox")
            .field("runs", &self.runs)
            .finish_non_exhaustive()
    }
}

struct Before {
    handles: Option<usize>,
    neighbour: usize,
}

/// Waits for a guest's end, and brings it about when it does not come.
async fn end(container: &Container) -> Result<(Exit, bool), Violation> {
    if let Ok(exit) = tokio::time::timeout(PATIENCE, container.wait()).await {
        return Ok((exit, false));
    }
    container.kill();
    match tokio::time::timeout(SETTLING, container.wait()).await {
        Ok(exit) => Ok((exit, true)),
        Err(_) => Err(Violation("the guest cannot be ended".into())),
    }
}

/// Waits for a state of the host that nothing tells of: a handle that another thread still closes.
fn wait_until(what: &str, state: impl Fn() -> Result<(), String>) -> Result<(), Violation> {
    let end = Instant::now() + SETTLING;
    loop {
        match state() {
            Ok(()) => return Ok(()),
            Err(now) if Instant::now() > end => return Err(Violation(format!("waited in vain for {what}: {now}"))),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

fn identity(name: &str) -> PodIdentity {
    PodIdentity {
        namespace: "demo".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
    }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 244, 0, last))
}

/// The directories of a run: three mounts, and the canary beside them.
struct Place {
    root: TempDir,
    quota: Arc<Quota>,
}

impl Place {
    fn new() -> anyhow::Result<Self> {
        let root = tempfile::tempdir()?;
        for name in ["data", "free", "fixed"] {
            fs::create_dir(root.path().join(name))?;
        }
        fs::write(root.path().join("canary"), CANARY)?;
        fs::write(root.path().join("fixed/canary"), CANARY)?;
        fs::create_dir(root.path().join("fixed/dir"))?;
        // What leads out was not made by the guest: another pod that shares the volume may have made it.
        #[cfg(unix)]
        for mount in ["data", "fixed"] {
            std::os::unix::fs::symlink("../canary", root.path().join(mount).join("link"))?;
            std::os::unix::fs::symlink(root.path(), root.path().join(mount).join("out"))?;
        }
        let quota =
            Quota::of_directory(&root.path().join("data"), VOLUME_BYTES, None).context("the volume's account")?;
        Ok(Self { root, quota })
    }

    fn mounts(&self) -> Vec<Mount> {
        let mount = |name: &str, read_only, quota| Mount {
            host: self.root.path().join(name),
            guest: format!("/{name}"),
            read_only,
            quota,
            lazy: false,
        };
        vec![
            mount("data", false, Some(self.quota.clone())),
            mount("free", false, None),
            mount("fixed", true, None),
        ]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Whether all is as it has to be.
    fn check(&self) -> Result<(), Violation> {
        let mut found = names(self.root.path())?;
        found.sort();
        expect(
            "what lies beside the mounts",
            &found,
            &["canary", "data", "fixed", "free"],
        )?;
        let mut found = names(&self.path("fixed"))?;
        found.sort();
        expect(
            "what lies in the mount that is read-only",
            &found,
            &["canary", "dir", "link", "out"],
        )?;
        for canary in ["canary", "fixed/canary"] {
            match fs::read_to_string(self.path(canary)) {
                Ok(text) if text == CANARY => {}
                other => return Err(Violation(format!("{canary} was touched: {other:?}"))),
            }
        }
        let held = self.quota.usage();
        if held.used_bytes > VOLUME_BYTES {
            return Err(Violation(format!("the volume holds too much: {held:?}")));
        }
        // What a guest had begun when it was ended is carried out to its end, name and account together.
        wait_until("the right account of the volume", || {
            let told = self.quota.usage();
            let walked = Quota::of_directory(&self.path("data"), VOLUME_BYTES, None)
                .map_err(|error| format!("the volume cannot be walked through: {error}"))?
                .usage();
            ((told.used_bytes, told.names) == (walked.used_bytes, walked.names))
                .then_some(())
                .ok_or_else(|| format!("it is {told:?}, but there is {walked:?}"))
        })
    }
}

fn names(directory: &Path) -> Result<Vec<String>, Violation> {
    let entries = fs::read_dir(directory).map_err(|error| Violation(format!("{}: {error}", directory.display())))?;
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.collect())
}

fn expect(what: &str, found: &[String], wanted: &[&str]) -> Result<(), Violation> {
    match found == wanted {
        true => Ok(()),
        false => Err(Violation(format!("{what} is {found:?}"))),
    }
}

/// Keeps the first of what is written.
#[derive(Default)]
struct Output(Mutex<Vec<u8>>);

impl LogSink for Output {
    fn write(&self, bytes: &[u8]) {
        let mut kept = self.0.lock();
        let room = OUTPUT_BYTES.saturating_sub(kept.len());
        kept.extend(bytes.iter().take(room));
    }
}

/// The programs that a guest may start: the driver.
struct Toolbox(Arc<Module>);

impl Programs for Toolbox {
    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Arc<Module>, FindError>> {
        let found = match name {
            "driver" => Ok(self.0.clone()),
            _ => Err(FindError::Unknown),
        };
        async { found }.boxed()
    }
}

mod panics {
    //! Panics of any thread: those of a host function would else only be seen as a guest that ended.

    use std::panic;
    use std::sync::Once;

    use parking_lot::Mutex;

    static SEEN: Mutex<Option<String>> = Mutex::new(None);

    pub(super) fn watch() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let usual = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                let thread = std::thread::current();
                // Tests have threads of their own, which fail as they do.
                if matches!(
                    thread.name(),
                    Some("coracle-guest" | "tokio-runtime-worker" | "tokio-rt-worker")
                ) {
                    SEEN.lock().get_or_insert_with(|| panic.to_string());
                }
                usual(panic);
            }));
        });
    }

    pub(super) fn take() -> Option<String> {
        SEEN.lock().take()
    }
}
