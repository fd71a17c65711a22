//! What all pods of a node share.

use crate::address::AddressPool;
use crate::admit::Ledger;
use crate::backoff::Limits;
use crate::clock::Clock;
use crate::config::Identity;
use crate::events::Recorder;
use crate::image_files::ImageFiles;
use crate::logs::Logs;
use crate::objects::Objects;
use crate::verdict::Verdict;
use coracle_images::{Image, ImageError, ImageStore};
use coracle_net::Fabric;
use coracle_runtime::{LoadError, Module, Runtime};
use jiff::Timestamp;
use kube::Client;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use tokio::sync::Semaphore;

/// Requests to the API that pods have under way at once: enough to keep a server with a few cores busy, few enough that the end of
/// a thousand pods does not hold a thousand requests in memory.
pub const MAX_REQUESTS: usize = 64;

/// The parts of the node that pods use.
pub struct Node {
    /// What the node is.
    pub identity: Identity,
    /// The API.
    pub client: Client,
    /// The pod network.
    pub fabric: Fabric,
    /// Addresses for pods.
    pub addresses: AddressPool,
    /// Images.
    pub images: Arc<ImageStore>,
    /// Files that are images.
    pub image_files: ImageFiles,
    /// Runs modules.
    pub runtime: Runtime,
    /// Referenced objects.
    pub objects: Objects,
    /// Containers' logs.
    pub logs: Logs,
    /// Events.
    pub recorder: Recorder,
    /// Where volumes lie.
    pub pods_dir: PathBuf,
    /// Where persistent volumes lie.
    pub volumes_dir: PathBuf,
    /// Whether pods may have directories of the host.
    pub host_paths: bool,
    /// Restarts.
    pub restart_backoff: Limits,
    /// Attempts to create.
    pub create_backoff: Limits,
    /// When the agent was built.
    pub started: Timestamp,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who was admitted.
    pub ledger: Mutex<Ledger>,
    /// Bounds requests to the API.
    pub requests: Semaphore,
    /// Compiled modules that pods hold, so that a module is read from disk once.
    pub modules: Mutex<HashMap<ModuleKey, Weak<Module>>>,
    /// Which images can run here, by the digest of their module.
    pub verdicts: Mutex<HashMap<Arc<str>, Verdict>>,
}

/// A module's digest, and whether it counts instructions.
pub type ModuleKey = (Arc<str>, bool);

/// Why there is no module.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Its bytes cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It cannot run here.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Node {
    /// The compiled module of an image.
    ///
    /// # Errors
    /// When its bytes cannot be read or the node cannot run it.
    pub async fn module(&self, image: &Image, metered: bool) -> Result<Arc<Module>, ModuleError> {
        let key = (image.digest.clone(), metered);
        if let Some(module) = self.modules.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(module);
        }
        let wasm = image.wasm()?;
        let module = if metered {
            self.runtime.load_metered(&image.digest, wasm).await?
        } else {
            self.runtime.load(&image.digest, wasm).await?
        };
        let mut modules = self.modules.lock();
        modules.retain(|_, module| module.strong_count() > 0);
        modules.insert(key, Arc::downgrade(&module));
        Ok(module)
    }
}
