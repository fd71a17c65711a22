//! Two pods, and the accounts that pay for what they are sent.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::FutureExt;
use loom::sync::Mutex;
use network::{Binding, Conn, Fabric, FabricConfig, MemoryCharge, PodIdentity, PodNet, SocketSlot, UdpBinding};

/// An account, which must be as full in the end as it was at first.
pub struct Purse {
    left: Mutex<usize>,
    at_first: usize,
}

impl Purse {
    pub fn of(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            left: Mutex::new(bytes),
            at_first: bytes,
        })
    }

    /// Takes what is left, as the guest's own memory may.
    pub fn empty(&self) -> usize {
        std::mem::take(&mut *self.left.lock().unwrap())
    }

    /// What the network holds of it.
    pub fn paid(&self) -> usize {
        self.at_first - *self.left.lock().unwrap()
    }

    pub fn is_as_at_first(&self) {
        assert_eq!(
            *self.left.lock().unwrap(),
            self.at_first,
            "what was paid and what was given back"
        );
    }
}

impl MemoryCharge for Purse {
    fn charge(&self, bytes: usize) -> bool {
        let mut left = self.left.lock().unwrap();
        let pays = *left >= bytes;
        *left -= if pays { bytes } else { 0 };
        pays
    }

    fn release(&self, bytes: usize) {
        *self.left.lock().unwrap() += bytes;
    }
}

/// Where the server listens.
pub const AT: ([u8; 4], u16) = ([10, 244, 0, 3], 80);

#[derive(Clone)]
pub struct World {
    pub fabric: Fabric,
    pub client: Arc<PodNet>,
    pub server: Arc<PodNet>,
}

impl World {
    pub fn new() -> Self {
        let fabric = Fabric::new(FabricConfig::default());
        let add = |name: &str, last| {
            let identity = PodIdentity {
                namespace: "demo".into(),
                name: name.into(),
                uid: name.into(),
            };
            fabric
                .add_pod(identity, vec![IpAddr::from([10, 244, 0, last])])
                .unwrap()
        };
        let (client, server) = (add("client", 2), add("server", 3));
        Self { fabric, client, server }
    }

    /// A socket of the server's whose buffers `purse` pays.
    fn slot(&self, purse: &Arc<Purse>) -> SocketSlot {
        self.server.claim(Some(purse.clone())).unwrap()
    }

    /// The server's port, listening.
    pub fn listening(&self, backlog: usize, purse: &Arc<Purse>) -> Binding {
        let binding = self.server.bind_with(self.slot(purse), AT.into()).unwrap();
        binding.listen(backlog).unwrap();
        binding
    }

    /// Both ends of a connection, the client's first.
    pub fn connected(&self, purse: &Arc<Purse>) -> (Conn, Conn) {
        let binding = self.listening(1, purse);
        let client = self.client.connect(AT.into()).now_or_never().unwrap().unwrap();
        (client, binding.try_accept().unwrap().unwrap())
    }

    /// UDP ports of the client and of the server.
    pub fn mailboxes(&self, purse: &Arc<Purse>) -> (UdpBinding, UdpBinding) {
        let any: SocketAddr = ([0, 0, 0, 0], 0).into();
        let server = self.server.bind_udp_with(self.slot(purse), AT.into()).unwrap();
        (self.client.bind_udp(any).unwrap(), server)
    }

    /// Ends the server's pod.
    pub fn remove_server(&self) {
        self.fabric.remove_pod("server");
    }
}
