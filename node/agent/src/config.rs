//! What an agent is told when it is built.

use crate::backoff::Limits;
use crate::clock::{Clock, SystemClock};
use crate::fields::Capacity;
use coracle_images::{Disk, ImageStore};
use coracle_net::Fabric;
use coracle_runtime::Runtime;
use k8s_openapi::api::core::v1::{Pod, Taint};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Everything that an agent needs to know.
#[derive(Clone)]
pub struct Config {
    /// How the API is reached, as `system:node:<name>`.
    pub client: kube::Client,
    /// How services and endpoint slices are watched, as `system:kube-proxy`; the node's own client where there is no other.
    pub proxy_client: Option<kube::Client>,
    /// What the node is.
    pub identity: Identity,
    /// Runs modules.
    pub runtime: Runtime,
    /// The pod network.
    pub fabric: Fabric,
    /// The node's images.
    pub images: Arc<ImageStore>,
    /// Where pods' volumes lie, one directory a pod.
    pub pods_dir: PathBuf,
    /// Where containers' logs lie.
    pub logs_dir: PathBuf,
    /// Where persistent volumes of kind `local` lie: `/volumes/<name>` is a directory here. Virtual nodes share it.
    pub volumes_dir: PathBuf,
    /// Whether pods may have directories of the host. Off by default: whoever may create a pod could read and write them.
    pub host_paths: bool,
    /// Pods that run whatever the API says: a list that may change. None: there are none.
    pub static_pods: Option<watch::Receiver<Vec<Pod>>>,
    /// How containers that end are spaced out.
    pub restart_backoff: Limits,
    /// How attempts to get an image or a configuration are spaced out.
    pub create_backoff: Limits,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// What the node object says.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node's name.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// From where its pods get addresses, as `10.244.0.0/16`.
    pub pod_cidr: String,
    /// What it offers.
    pub capacity: Capacity,
    /// The port of its API, where it serves that to others.
    pub api_port: Option<u16>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Labels beside those that every node has.
    pub labels: BTreeMap<String, String>,
    /// What keeps pods away.
    pub taints: Vec<Taint>,
    /// The version of Kubernetes that it speaks, as `v1.36.2+coracle`.
    pub kubelet_version: String,
    /// What runs its containers, as `wasmtime://48.0.8`.
    pub runtime_version: String,
}

impl Config {
    /// A node with this machine's capacity and the loopback address, which keeps its pods under `data_dir`: in `pods/<name>` and
    /// `logs/<name>`, so that virtual nodes can share the directory.
    pub fn new(
        name: impl Into<String>,
        client: kube::Client,
        runtime: Runtime,
        fabric: Fabric,
        images: Arc<ImageStore>,
        data_dir: &Path,
    ) -> Self {
        let mut identity = Identity::new(name);
        identity.capacity.disk_bytes = Disk::of(data_dir).map(|disk| disk.capacity);
        Self {
            pods_dir: data_dir.join("pods").join(&identity.name),
            logs_dir: data_dir.join("logs").join(&identity.name),
            volumes_dir: data_dir.join("volumes"),
            host_paths: false,
            static_pods: None,
            client,
            proxy_client: None,
            identity,
            runtime,
            fabric,
            images,
            restart_backoff: Limits::default(),
            create_backoff: Limits::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl Identity {
    /// A node with this machine's capacity and the defaults of a cluster on one machine.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            pod_cidr: "10.244.0.0/16".to_owned(),
            capacity: crate::capacity::detect(),
            api_port: None,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            kubelet_version: "v1.36.2+coracle".to_owned(),
            runtime_version: "wasmtime://48.0.8".to_owned(),
        }
    }
}
