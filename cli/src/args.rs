//! Every command and flag of the `coracle` binary, declared once.
//!
//! Only shapes and defaults live here; what a command does is in the module of its name.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand};
use http::{HeaderName, HeaderValue};
use jiff::SignedDuration;

use crate::{cluster::MAX_NODES, static_pods};

/// Kubernetes for WebAssembly in one binary.
#[derive(Debug, Parser)]
#[command(name = "coracle", version, about, propagate_version = true)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// What `coracle` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster in this process and keep it running until Ctrl-C.
    Up(ClusterArgs),
    /// Start a cluster, apply the sidecar example, call it and show what came back.
    Demo(DemoArgs),
    /// Serve the Kubernetes API alone; controllers, scheduler and nodes are other processes.
    Server(ServerArgs),
    /// Run the controllers against an API server.
    Controllers(ControllersArgs),
    /// Run the scheduler against an API server.
    Scheduler(ApartArgs),
    /// Run the pods of this machine for a cluster elsewhere; see docs/several-machines.md.
    Node(NodeArgs),
    /// Make, list and remove the tokens by which other machines join.
    Token(TokenArgs),
    /// Print the kubeconfig of the cluster in the data directory.
    Kubeconfig(DataDirArgs),
    /// Make an image in the local store from a Cargo project or a Dockerfile.
    Build(BuildArgs),
    /// Compile one module from standard input to standard output, for the node that starts this.
    #[command(name = coracle_runtime::COMPILE_COMMAND, hide = true)]
    CompileModule {
        /// Whether the code yields by `time` or counts `fuel`.
        metering: Metering,
        /// Bytes of address space that it may have.
        memory_bytes: u64,
        /// Seconds of CPU that it may take.
        cpu_seconds: u64,
    },
    /// Work with the images in the node's local store.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Look at the traffic of a pod.
    #[command(subcommand)]
    Net(NetCommand),
    /// Run a guest that does its worst in a cluster of its own, and see what the others feel of it; see docs/fuzzing.md.
    Fuzz(FuzzArgs),
}

/// How compiled code is made to yield.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Metering {
    /// At ticks.
    Time,
    /// By counting instructions.
    Fuel,
}

/// Where the state of a cluster lives.
#[derive(Debug, Clone, Args)]
pub struct DataDirArgs {
    /// Directory that holds the cluster's state [default: the user's data directory].
    #[arg(long, env = "CORACLE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// How registries of images are reached.
#[derive(Debug, Clone, Args)]
pub struct RegistryArgs {
    /// PEM file with the authority of registries whose certificates the system does not trust.
    #[arg(long, env = "CORACLE_REGISTRY_CA", value_name = "FILE")]
    pub registry_ca: Option<PathBuf>,
}

/// How a cluster is started.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    /// Where the state lives.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// How registries of images are reached.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Keep the state in a temporary directory that is removed at the end.
    #[arg(long, conflicts_with = "data_dir")]
    pub ephemeral: bool,
    /// Address of the API server; port 0 takes any free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6443")]
    pub listen: SocketAddr,
    /// Address of the DNS server on the host (UDP and TCP); port 0 takes any free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    pub dns_listen: SocketAddr,
    /// A resolver to ask for names outside the cluster, as `ADDR[:PORT]`; without one they are refused.
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = resolver)]
    pub dns_upstream: Option<SocketAddr>,
    /// Addresses of the ingress for HTTP and HTTPS, as `ADDR:PORT[,TLSPORT]` or `off`; port 0 takes any free one.
    #[arg(long, value_name = "ADDR:PORT[,TLSPORT]", default_value = "127.0.0.1:0,0")]
    pub ingress: IngressListen,
    /// When nodes are taken for lost.
    #[command(flatten)]
    pub grace: GraceArgs,
    /// What is signed for others.
    #[command(flatten)]
    pub signing: SigningArgs,
    /// How many virtual nodes run in this process.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=i64::from(MAX_NODES)))]
    pub nodes: u16,
    /// How many further nodes only pretend to run their pods; they have the label `coracle.dev/simulated`.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=i64::from(coracle_simulated::MAX_NODES)))]
    pub simulated_nodes: u16,
    /// YAML file that says how long pretending pods take to start, run and stop; see docs/simulated-nodes.md.
    #[arg(long, value_name = "FILE", requires = "simulated_nodes")]
    pub simulated_delays: Option<PathBuf>,
    /// Let pods mount directories of this machine (hostPath). Whoever may create a pod can then read and write them.
    #[arg(long)]
    pub allow_host_paths: bool,
    /// Let pods name .wasm files of this machine as images (file:///...); a container starts again when its file changes.
    #[arg(long)]
    pub allow_file_images: bool,
    /// Percent of the disk above which images are removed that no pod uses.
    #[arg(long, value_name = "PERCENT", default_value_t = coracle_images::HIGH_PERCENT, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_high: u8,
    /// Percent of the disk down to which.
    #[arg(long, value_name = "PERCENT", default_value_t = coracle_images::LOW_PERCENT, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_low: u8,
    /// Run the pods of the manifests in this directory, whatever the API says; the API shows them.
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Where static pods come from beside a directory.
    #[command(flatten)]
    pub static_pod_url: StaticPodUrlArgs,
    /// Add a line to this file for every request to the API: who asked for what, and what came of it; see docs/audit-log.md.
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// Address at which this machine's pods are reached by nodes on other machines; port 0 takes any free one [default: port
    /// 10250 of the address of --listen, unless that is a loopback address].
    #[arg(long, value_name = "ADDR:PORT")]
    pub node_listen: Option<SocketAddr>,
    /// Run a further node in a process of its own, for the pods of the RuntimeClass NAME, which is made with it; see
    /// docs/isolation.md.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = crate::processes::name)]
    pub node_process: Vec<String>,
    /// Do not add the context `coracle` to your kubeconfig.
    #[arg(long)]
    pub no_merge: bool,
}

/// The port at which nodes listen for each other and for the API server: the kubelet's.
pub const NODE_PORT: u16 = 10250;

/// What is done with a node.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NodeArgs {
    /// Something else than running it.
    #[command(subcommand)]
    pub command: Option<NodeCommand>,
    /// How it runs.
    #[command(flatten)]
    pub run: NodeRun,
}

/// What can be done with a node beside running it.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Forget the cluster that this machine is a node of, and what its pods left behind. Images stay.
    Reset(DataDirArgs),
}

/// How a node runs.
#[derive(Debug, Clone, Args)]
pub struct NodeRun {
    /// Where the state lives.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// How registries of images are reached.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// URL of the API server of the cluster to join. A machine that has joined needs it no more.
    #[arg(long, value_name = "URL")]
    pub join: Option<String>,
    /// The token to join with; `coracle token create` makes one where the cluster is.
    #[arg(long, value_name = "TOKEN", env = "CORACLE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Hash of the cluster's authority, as `coracle token create --print-join-command` prints it.
    #[arg(
        long,
        value_name = "sha256:HASH",
        alias = "discovery-token-ca-cert-hash",
        requires = "join"
    )]
    pub ca_hash: Vec<String>,
    /// Join without a hash: believe everybody who holds a token of the cluster.
    #[arg(long, conflicts_with = "ca_hash")]
    pub unsafe_skip_ca_verification: bool,
    /// The node's name [default: this machine's].
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Address at which others reach this node [default: the one from which this machine reaches the API server, port 10250];
    /// port 0 takes any free one.
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address of the DNS server on the host (UDP and TCP); port 0 takes any free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    pub dns_listen: SocketAddr,
    /// Labels of the node, as KEY=VALUE.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// Open no ports of services on this machine: another node of it has them. Host ports of pods are opened.
    #[arg(long)]
    pub no_node_ports: bool,
    /// Where images are kept [default: in the data directory]; nodes of one machine may share it.
    #[arg(long, value_name = "DIR")]
    pub images_dir: Option<PathBuf>,
    /// Where compiled guests are kept [default: in the data directory]; nodes of one machine may share it.
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// End when the standard input ends: with whoever has started it.
    #[arg(long, hide = true)]
    pub until_input_ends: bool,
    /// Let pods mount directories of this machine (hostPath). Whoever may create a pod can then read and write them.
    #[arg(long)]
    pub allow_host_paths: bool,
    /// Let pods name .wasm files of this machine as images (file:///...); a container starts again when its file changes.
    #[arg(long)]
    pub allow_file_images: bool,
}

/// What is done with tokens.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token by which machines join.
    Create(TokenCreate),
    /// List the tokens, without their secrets.
    Ls(TokenAccess),
    /// Remove a token. Nodes that have joined with it stay.
    Rm {
        /// How the cluster is reached.
        #[command(flatten)]
        access: TokenAccess,
        /// The part of the token before the dot.
        id: String,
    },
}

/// How the cluster of tokens is reached, as its administrator.
#[derive(Debug, Clone, Args)]
pub struct TokenAccess {
    /// Where the state of the cluster lives.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// Its kubeconfig [default: the one in the data directory].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// What token is made.
#[derive(Debug, Clone, Args)]
pub struct TokenCreate {
    /// How the cluster is reached.
    #[command(flatten)]
    pub access: TokenAccess,
    /// For how long it is good; 0s makes one without an end.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub ttl: SignedDuration,
    /// URL of the API server for machines that join [default: that of the kubeconfig].
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// What it is for, for people.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Print the whole command that the other machine runs.
    #[arg(long)]
    pub print_join_command: bool,
}

/// When nodes are taken for lost.
#[derive(Debug, Clone, Copy, Args)]
pub struct GraceArgs {
    /// How long a node may be silent before it is taken for lost; nodes speak up every 10 s.
    #[arg(long, value_name = "DURATION", default_value = "50s")]
    pub node_monitor_grace_period: SignedDuration,
}

/// What the server signs for others.
#[derive(Debug, Clone, Copy, Args)]
pub struct SigningArgs {
    /// How long the certificates are good that nodes and others ask for, at most; nodes renew theirs when two thirds of that
    /// are over.
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = life)]
    pub cluster_signing_duration: SignedDuration,
}

impl SigningArgs {
    /// In seconds.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.cluster_signing_duration.as_secs().unsigned_abs()
    }
}

/// How long a certificate may be good: its times are whole seconds.
fn life(text: &str) -> Result<SignedDuration, String> {
    let life: SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    if life < SignedDuration::from_secs(1) {
        return Err("a certificate is good for a second at least".to_owned());
    }
    Ok(life)
}

/// The address of a resolver, at the port of DNS unless another is named.
fn resolver(text: &str) -> Result<SocketAddr, String> {
    let with_port = || text.parse::<SocketAddr>().ok();
    let bare = || Some(SocketAddr::new(text.parse().ok()?, 53));
    with_port()
        .or_else(bare)
        .ok_or_else(|| format!("{text:?} is no address of a resolver, such as 192.0.2.1 or 192.0.2.1:5353"))
}

/// Where static pods come from beside a directory.
#[derive(Debug, Clone, Args)]
pub struct StaticPodUrlArgs {
    /// Run the pods of the document at this URL (a Pod or a PodList, in YAML or JSON), whatever the API says.
    #[arg(long = "static-pod-url", value_name = "URL")]
    pub url: Option<String>,
    /// Send this header with each request for the document; may be given several times.
    #[arg(long = "static-pod-url-header", value_name = "NAME: VALUE", requires = "url", value_parser = static_pods::url::header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Seconds between two requests for the document.
    #[arg(long = "static-pod-url-interval", value_name = "SECONDS", requires = "url", default_value_t = static_pods::url::INTERVAL.as_secs(), value_parser = clap::value_parser!(u64).range(1..))]
    pub interval_seconds: u64,
}

impl StaticPodUrlArgs {
    /// The document, where one was named.
    #[must_use]
    pub fn source(&self) -> Option<static_pods::url::Source> {
        self.url.clone().map(|url| static_pods::url::Source {
            url,
            headers: self.headers.iter().cloned().collect(),
            interval: Duration::from_secs(self.interval_seconds),
        })
    }
}

/// Where the ingress listens, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngressListen(pub Option<(SocketAddr, SocketAddr)>);

impl std::str::FromStr for IngressListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self(None));
        }
        let wrong = || format!("{text:?} is neither ADDR:PORT[,TLSPORT], such as 127.0.0.1:8080,8443, nor off");
        let (plain, tls) = text.split_once(',').unwrap_or((text, "0"));
        let plain: SocketAddr = plain.parse().map_err(|_| wrong())?;
        let tls: u16 = tls.parse().map_err(|_| wrong())?;
        Ok(Self(Some((plain, SocketAddr::new(plain.ip(), tls)))))
    }
}

/// How an API server is started.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Where the state lives.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// Keep the state in a temporary directory that is removed at the end.
    #[arg(long, conflicts_with = "data_dir")]
    pub ephemeral: bool,
    /// Address of the API server; port 0 takes any free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6443")]
    pub listen: SocketAddr,
    /// Run the controllers in this process too. They hold no lease: run none besides.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub controllers: bool,
    /// When nodes are taken for lost.
    #[command(flatten)]
    pub grace: GraceArgs,
    /// What is signed for others.
    #[command(flatten)]
    pub signing: SigningArgs,
    /// Run the scheduler in this process too. It holds no lease: run none besides.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub scheduler: bool,
    /// Add a line to this file for every request to the API: who asked for what, and what came of it; see docs/audit-log.md.
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
}

/// How a part of the control plane finds its server, and who works where several are started.
#[derive(Debug, Clone, Args)]
pub struct ApartArgs {
    /// The kubeconfig that says where the API server is and who this is.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Work only while holding the lease that Kubernetes' own component would hold.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = ArgAction::Set)]
    pub leader_elect: bool,
    /// How long others leave a lease alone that its holder does not renew.
    #[arg(long, value_name = "DURATION", default_value = "15s")]
    pub leader_elect_lease_duration: SignedDuration,
    /// How long the holder tries to renew its lease before it gives up and ends.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub leader_elect_renew_deadline: SignedDuration,
    /// The pause between looks at the lease.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub leader_elect_retry_period: SignedDuration,
}

/// How the controllers run.
#[derive(Debug, Clone, Args)]
pub struct ControllersArgs {
    /// Which server, and who leads.
    #[command(flatten)]
    pub apart: ApartArgs,
    /// Which controllers run: `*` are all, NAME is that one, -NAME is all but that one. Beside those of another program,
    /// say `--leader-elect=false`: they are not to wait for its lease.
    #[arg(
        long,
        value_name = "NAMES",
        default_value = "*",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub controllers: Vec<String>,
    /// When nodes are taken for lost.
    #[command(flatten)]
    pub grace: GraceArgs,
    /// PEM file of the authority that pods trust for the API server [default: the kubeconfig's].
    #[arg(long, value_name = "FILE")]
    pub root_ca_file: Option<PathBuf>,
    /// Give nodes that have no pod network a part of this one.
    #[arg(long, value_name = "CIDR")]
    pub cluster_cidr: Option<String>,
    /// Length of the prefix of a node's part, in bits.
    #[arg(long, value_name = "BITS", default_value_t = 24, requires = "cluster_cidr")]
    pub node_cidr_mask_size: u8,
}

/// How the demo runs.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How the cluster is started.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// End after the checks instead of running until Ctrl-C.
    #[arg(long)]
    pub exit: bool,
}

/// What is built, and what it is called.
#[derive(Debug, Clone, Args)]
pub struct BuildArgs {
    /// Where the state lives.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// Directory of the Cargo project, or of the files that a Dockerfile copies.
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// Name of the image, as `NAME[:TAG]` [default: the program's or the directory's name].
    #[arg(short, long, value_name = "NAME")]
    pub tag: Option<String>,
    /// The Dockerfile [default: the directory's, where it has no Cargo.toml].
    #[arg(short, long, value_name = "FILE", conflicts_with = "bin")]
    pub file: Option<PathBuf>,
    /// Which of several programs of a Cargo project.
    #[arg(long, value_name = "NAME")]
    pub bin: Option<String>,
}

/// What can be done with local images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List the images in the local store.
    Ls(DataDirArgs),
    /// Fetch an image from its registry into the local store.
    Pull {
        /// Where the state lives.
        #[command(flatten)]
        data: DataDirArgs,
        /// How the registry is reached.
        #[command(flatten)]
        registry: RegistryArgs,
        /// The name with its registry, as `HOST[:PORT]/PATH[:TAG|@DIGEST]`.
        name: String,
    },
    /// Put an image from the local store, or a built-in one, into a registry.
    Push {
        /// Where the state lives.
        #[command(flatten)]
        data: DataDirArgs,
        /// How the registry is reached.
        #[command(flatten)]
        registry: RegistryArgs,
        /// The name in the local store.
        name: String,
        /// The name in the registry, as `HOST[:PORT]/PATH[:TAG]` [default: the same].
        target: Option<String>,
        /// Push the module alone, as a wasm artifact that tools without images read.
        #[arg(long)]
        artifact: bool,
        /// A build of the same program for the other WASI, in the local store; the artifact offers both.
        #[arg(long, value_name = "NAME", requires = "artifact")]
        with: Option<String>,
    },
    /// Put a .wasm file into the local store under a name.
    Load {
        /// Where the state lives.
        #[command(flatten)]
        data: DataDirArgs,
        /// The .wasm file.
        file: PathBuf,
        /// The name that pods use, as `NAME[:TAG]`.
        name: String,
    },
    /// Show what an image is and what it gives its containers, as JSON.
    Inspect {
        /// Where the state lives.
        #[command(flatten)]
        data: DataDirArgs,
        /// The name that pods use, as `NAME[:TAG]`.
        name: String,
    },
    /// Remove content of the local store that no image needs, and with --all the images that no pod uses.
    Prune {
        /// Where the state lives.
        #[command(flatten)]
        data: DataDirArgs,
        /// Remove images too.
        #[arg(short, long)]
        all: bool,
    },
    /// Remove an image from the local store.
    Rm {
        /// Where the state lives.
        #[command(flatten)]
        data: DataDirArgs,
        /// The name that pods use, as `NAME[:TAG]`.
        name: String,
    },
}

/// What guests are let loose.
#[derive(Debug, Clone, Args)]
pub struct FuzzArgs {
    /// A component or WASI 0.1 module [default: a guest that makes calls to the host, made from the seed].
    #[arg(value_name = "COMPONENT.wasm")]
    pub component: Option<PathBuf>,
    /// Arguments of the component.
    #[arg(last = true, value_name = "ARG", requires = "component")]
    pub args: Vec<String>,
    /// For how long new guests are started.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub time: SignedDuration,
    /// How many guests at most; at least one is run [default: as many as there is time for].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// The number that decides what the first guest does and meets; each further one has the next.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Memory that a guest may have.
    #[arg(long, value_name = "QUANTITY", default_value = "64Mi")]
    pub memory: Memory,
    /// CPU that a guest may have, in cores or thousandths, counted in instructions.
    #[arg(long, value_name = "QUANTITY", default_value = "500m")]
    pub cpu: String,
    /// Instructions after which a guest is ended.
    #[arg(long, value_name = "QUANTITY", default_value = "2G")]
    pub fuel: String,
    /// The slowest that all but a hundredth of the neighbour's and the API's answers may be.
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    pub slowest: SignedDuration,
    /// How what was found is told.
    #[arg(short, long, value_enum, default_value_t = FuzzOutput::Table)]
    pub output: FuzzOutput,
}

/// How what was found is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FuzzOutput {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// An amount of memory, as Kubernetes writes it.
#[derive(Debug, Clone)]
pub struct Memory {
    /// As it was given.
    pub text: String,
    /// What it is.
    pub bytes: u64,
}

impl std::str::FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let quantity = coracle_api::quantity::Quantity::parse(text).map_err(|error| error.to_string())?;
        let bytes = u64::try_from(quantity.value()).ok().filter(|bytes| *bytes > 0);
        Ok(Self {
            text: text.to_owned(),
            bytes: bytes.ok_or_else(|| format!("{text:?} is no amount of memory, such as 64Mi"))?,
        })
    }
}

/// What can be seen of a pod's traffic.
#[derive(Debug, Subcommand)]
pub enum NetCommand {
    /// Show each connection that the pod begins, takes or is refused, as it happens.
    Trace {
        /// Which pod.
        #[command(flatten)]
        pod: PodArgs,
        /// End after what has happened so far, with the counters.
        #[arg(long)]
        no_follow: bool,
    },
    /// Write the packets of the pod's virtual interface to a file for Wireshark (pcapng), until Ctrl-C.
    Capture {
        /// Which pod.
        #[command(flatten)]
        pod: PodArgs,
        /// The file, or `-` for standard output.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// A pod of some cluster.
#[derive(Debug, Clone, Args)]
pub struct PodArgs {
    /// The pod.
    pub pod: String,
    /// Its namespace [default: the context's].
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// The kubeconfig that says where the cluster is [default: kubectl's].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig [default: its current one].
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_ingress_listens() {
        let parsed = |text: &str| text.parse::<IngressListen>().map(|listen| listen.0);
        let at = |text: &str| text.parse::<SocketAddr>().ok();
        assert_eq!(parsed("off"), Ok(None));
        let both = at("127.0.0.1:8080").zip(at("127.0.0.1:8443"));
        assert_eq!(parsed("127.0.0.1:8080,8443"), Ok(both));
        assert_eq!(parsed("[::1]:80"), Ok(at("[::1]:80").zip(at("[::1]:0"))));
        for text in ["", "on", "127.0.0.1", "127.0.0.1:80,x", "127.0.0.1:80,127.0.0.1:81"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
