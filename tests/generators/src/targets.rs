//! What each fuzz target does with its bytes, so that tests do the same with the seeds and with what was found once.

use coracle_runtime::Metering;

use crate::modules::Modules;
use crate::{FAMILIES, Run, Sandbox, Violation, engines};

/// Runs after which the code of generated modules is forgotten: each is met once, and what is compiled lies in a directory.
const RUNS: u32 = 500;

/// The bit of the first byte of `hostcalls` that has the driver run by time. By fuel it always makes the same calls, and may start
/// no programs; by time it may.
pub const BY_TIME: u8 = 0x80;

/// The targets that run guests, in one sandbox.
#[derive(Debug)]
pub struct Targets {
    sandbox: Sandbox,
    modules: Modules,
    runs: u32,
}

impl Targets {
    /// Sets up the sandbox.
    ///
    /// # Errors
    /// When the machine does not let it.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            sandbox: Sandbox::new()?,
            modules: Modules::new()?,
            runs: 0,
        })
    }

    /// The target of this name with these bytes. None where they make nothing that can run.
    ///
    /// # Errors
    /// What did not hold.
    ///
    /// # Panics
    /// There is no such target.
    #[allow(clippy::panic, reason = "a name that is mistyped is a defect of whoever calls this")]
    pub fn run(&mut self, target: &str, bytes: &[u8]) -> Result<Option<Run>, Violation> {
        match target {
            "hostcalls" => self.hostcalls(bytes),
            "modules" => self.modules(bytes),
            "engines" => self.engines(bytes),
            _ => panic!("there is no target {target} that runs guests"),
        }
    }

    /// The first byte is the family and how the driver is metered, the rest its program.
    fn hostcalls(&mut self, bytes: &[u8]) -> Result<Option<Run>, Violation> {
        let Some((first, program)) = bytes.split_first() else {
            return Ok(None);
        };
        let family = usize::from(first & !BY_TIME) % FAMILIES.len();
        let family = FAMILIES.get(family).copied().unwrap_or_default();
        let metering = match first & BY_TIME {
            0 => Metering::Fuel,
            _ => Metering::Time,
        };
        self.sandbox.drive(family, metering, program).map(Some)
    }

    /// The first byte says of which WASI a module is made of the rest.
    fn modules(&mut self, bytes: &[u8]) -> Result<Option<Run>, Violation> {
        let Some((kind, bytes)) = bytes.split_first() else {
            return Ok(None);
        };
        self.count();
        let wasm = match kind % 2 {
            0 => self.modules.component(bytes),
            _ => self.modules.preview1(bytes),
        };
        let module = wasm.ok().and_then(|wasm| self.sandbox.load(&wasm, Metering::Fuel).ok());
        module.map(|module| self.sandbox.run(module, &["guest"])).transpose()
    }

    fn engines(&mut self, bytes: &[u8]) -> Result<Option<Run>, Violation> {
        self.count();
        match engines::program(bytes) {
            Ok(program) => engines::compare(&mut self.sandbox, &program),
            Err(_) => Ok(None),
        }
    }

    fn count(&mut self) {
        self.runs += 1;
        if self.runs.is_multiple_of(RUNS) {
            self.sandbox.forget_code();
        }
    }
}
