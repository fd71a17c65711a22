//! Canaries: things of the host and of others that no guest may touch, each with words that are nowhere else.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, UdpSocket};

/// What a canary sings.
pub const WORDS: &str = "the-canary-sings";

/// A file in a directory of the host.
pub struct Canary {
    dir: tempfile::TempDir,
}

impl Canary {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), WORDS).unwrap();
        fs::create_dir(dir.path().join("inner")).unwrap();
        Self { dir }
    }

    pub fn directory(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("file")
    }

    /// The file is as it was, and alone.
    pub fn is_untouched(&self) {
        assert_eq!(fs::read_to_string(self.file()).unwrap(), WORDS);
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["file", "inner"]);
        assert_eq!(fs::read_dir(self.dir.path().join("inner")).unwrap().count(), 0);
    }
}

/// A port of the host, on TCP and UDP, that counts who comes.
pub struct Port {
    pub address: SocketAddr,
    visits: Arc<AtomicUsize>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Port {
    pub async fn open() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let visits = Arc::new(AtomicUsize::new(0));
        let (by_tcp, by_udp) = (visits.clone(), visits.clone());
        let streams = tokio::spawn(async move {
            while tcp.accept().await.is_ok() {
                by_tcp.fetch_add(1, Ordering::Relaxed);
            }
        });
        let datagrams = tokio::spawn(async move {
            while udp.recv(&mut [0; 64]).await.is_ok() {
                by_udp.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            address,
            visits,
            tasks: [streams, datagrams],
        }
    }

    /// Nobody came; a visit of the host's own shows that one would have been counted.
    pub async fn is_untouched(&self) {
        assert_eq!(self.visits.load(Ordering::Relaxed), 0, "somebody reached the host");
        let own = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        own.send_to(b"own", self.address).await.unwrap();
        tokio::net::TcpStream::connect(self.address).await.unwrap();
        while self.visits.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
