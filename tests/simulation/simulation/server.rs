//! The API server and its store, which can crash and come back over the same engine.

use std::sync::Arc;

use coracle_server::{Config, Pki, Server, header_of};
use coracle_store::{Store, WriterPlace};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{faults::Faults, ledger::Ledger, load::Loads, time::Time};

/// Where the server lives.
pub struct House {
    pub ledger: Arc<Ledger>,
    pub loads: Arc<Loads>,
    pub time: Time,
    pki: Pki,
    running: Mutex<Option<Running>>,
}

struct Running {
    server: Server,
    store: Store,
    /// Cancelled when the server crashes.
    down: CancellationToken,
}

impl House {
    pub async fn build(time: Time, seed: u64, faults: Arc<Faults>) -> Arc<Self> {
        let ledger = Arc::new(Ledger::new(time, seed));
        let house = Self {
            loads: Loads::new(ledger.clone(), faults, time),
            ledger,
            time,
            pki: Pki::ephemeral(&[]).unwrap(),
            running: Mutex::default(),
        };
        house.start().await;
        Arc::new(house)
    }

    /// Starts the server over what the engine kept.
    pub async fn start(&self) {
        let config = coracle_store::Config {
            clock: self.time.system(),
            writer: WriterPlace::Task,
            ..coracle_store::Config::default()
        };
        let store = Store::open(self.ledger.clone(), header_of, config).unwrap();
        let mut config = Config::new(store.clone(), self.pki.clone());
        config.clock = self.time.system();
        config.nodes = self.loads.clone();
        let server = Server::build(config).await.unwrap();
        let down = CancellationToken::new();
        *self.running.lock() = Some(Running { server, store, down });
    }

    /// Ends the server; what it has under way is never answered.
    pub async fn crash(&self) {
        let Some(Running { server, store, down }) = self.running.lock().take() else {
            return;
        };
        down.cancel();
        drop(server);
        store.close().await;
    }

    /// The server that runs, and the end of its life.
    pub fn current(&self) -> Option<(Server, CancellationToken)> {
        let running = self.running.lock();
        running
            .as_ref()
            .map(|running| (running.server.clone(), running.down.clone()))
    }

    /// The store as it is now.
    pub fn snapshot(&self) -> coracle_store::Snapshot {
        self.running.lock().as_ref().unwrap().store.snapshot()
    }
}
