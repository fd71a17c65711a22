//! The escape room, as tests: ways out of a pod, with canaries that nothing may touch, and every attack of the table at once.
//!
//! Each test counts what the process holds or looks at all it wrote, so they run one after the other.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod accounts;
mod canary;
mod crowd;
mod images;
mod network;
mod paths;
mod secrets;
mod words;

use coracle::cluster::ClusterConfig;
use coracle::data_dir::DataDir;
use coracle_isolation::world::World;
use tokio::sync::{Mutex, MutexGuard};

/// Held while a test has the process for itself.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

/// This package's program, which compiles as `coracle` does.
fn compiler() -> std::path::PathBuf {
    env!("CARGO_BIN_EXE_room").into()
}

/// A cluster with the hostile guest in its store.
async fn world() -> World {
    let mut config = ClusterConfig::new(DataDir::ephemeral().unwrap());
    config.compiler = Some(compiler());
    world_with(config).await
}

async fn world_with(config: ClusterConfig) -> World {
    let world = World::start_with(config).await;
    world.load("hostile", coracle_fixtures::component("hostile").unwrap());
    world
}
