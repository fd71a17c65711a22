//! From a container's specification to a container that runs.
//!
//! One attempt: image, module, environment, mounts, start. It changes nothing outside what it starts and decides nothing
//! about repetition: a failure says what the API is to be told.

use crate::env::{self, EnvError, Lookup};
use crate::exec::Named;
use crate::fields::Facts;
use crate::logs::{CORE_DUMP, LogFile, PROFILE};
use crate::node::{ModuleError, Node};
use crate::objects::{Kind, Known, Payload, Watched};
use crate::observed::waiting;
use crate::pull::{self, NoImage, Policy};
use crate::quantity;
use crate::resize::Resources;
use crate::termination::MessageFile;
use crate::volume::accounts::PodAccounts;
use crate::{diagnosis, runtime_class, sidecar, spec, volume};
use coracle_images::{Hold, Image, ImageConfig, ImageError, Reference};
use coracle_net::PodNet;
use coracle_runtime::{Container as Running, ContainerSpec, LoadError, Module, Mount, PodFiles, Stdin};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;

/// What a guest of kind HTTP is served on when neither pod nor image name a port.
const DEFAULT_HTTP_PORT: u16 = 8080;

/// How long a module may take to be ready before the pod's events say what is waited for. What was compiled before is there in
/// milliseconds.
const TELL_COMPILING: Duration = Duration::from_secs(1);

/// The extended resource that limits wasm instructions.
const FUEL: &str = "coracle.dev/fuel";

/// One attempt to start a container.
pub struct Attempt {
    /// The node.
    pub node: Arc<Node>,
    /// The pod.
    pub pod: Arc<Pod>,
    /// Which of its containers.
    pub index: usize,
    /// The pod's network.
    pub net: Arc<PodNet>,
    /// The pod's addresses.
    pub ips: Vec<IpAddr>,
    /// The objects that the pod refers to.
    pub objects: Arc<[Arc<Watched>]>,
    /// Wakes the pod.
    pub changed: Arc<Notify>,
    /// How much it may use.
    pub resources: Resources,
    /// Where the container's output goes.
    pub log: Arc<LogFile>,
    /// What the pod's volumes may hold.
    pub accounts: Arc<PodAccounts>,
    /// The pod's part of handles and threads for files.
    pub files: Arc<PodFiles>,
}

/// A container that runs.
pub struct Started {
    /// The container.
    pub container: Arc<Running>,
    /// The identity of its image.
    pub image_id: Arc<str>,
    /// The text of the event about its image.
    pub pulled: String,
    /// Where it may leave a message.
    pub message: Option<MessageFile>,
    /// The digest of its module.
    pub digest: Arc<str>,
    /// Keeps its image in the store.
    pub hold: Hold,
}

/// A container that does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The waiting reason.
    pub reason: &'static str,
    /// The waiting message.
    pub message: String,
    /// The reason of the event.
    pub event: &'static str,
    /// The message of the event.
    pub event_message: String,
}

impl Attempt {
    /// Tries.
    ///
    /// # Errors
    /// When the container cannot be started; nothing of it is left.
    pub async fn run(self) -> Result<Started, Failure> {
        let Some(container) = spec::container(&self.pod, self.index) else {
            return Err(failure(
                waiting::CREATE,
                "Failed",
                "the pod has no such container".to_owned(),
            ));
        };
        if let Some(problem) = sidecar::problem(&self.pod) {
            return Err(failure(waiting::CONFIG, "Failed", format!("Error: {problem}")));
        }
        self.watch_file(container);
        let (image, pulled) = self.image(container).await?;
        let hold = self.node.images.hold(&image).map_err(|error| {
            let name = container.image.as_deref().unwrap_or_default();
            image_failure(name, &error.into(), false)
        })?;
        let fuel = self
            .resources
            .limit(FUEL)
            .and_then(quantity::whole)
            .and_then(|fuel| u64::try_from(fuel).ok());
        let class = runtime_class::of(&self.node.client, &self.pod).await;
        let by_fuel = class.map_err(|error| failure(waiting::CREATE, "FailedCreatePodSandBox", error.to_string()))?;
        let module = self.module(container, &image, fuel.is_some() || by_fuel).await;
        let module = module.map_err(|error| module_failure(&image, &error))?;
        let (mut spec, message) = self.spec(container, &image.config, (fuel, by_fuel))?;
        if let Some(files) = image.files.clone() {
            let root = self.root(container, files, spec.mounts.clone()).await?;
            spec.mounts.insert(0, root);
        }
        match self.node.runtime.start(module, spec) {
            Ok(running) => Ok(Started {
                container: Arc::new(running),
                image_id: image.id.clone(),
                pulled,
                message,
                digest: image.digest.clone(),
                hold,
            }),
            Err(error) => Err(failure(waiting::RUN, "Failed", error.to_string())),
        }
    }

    /// An image that is a file may change: the container starts again with it then, or tries again.
    fn watch_file(&self, container: &Container) {
        let name = container.image.as_deref().unwrap_or_default();
        let Ok(Reference::File(path)) = Reference::parse(name) else {
            return;
        };
        if let Err(error) = self.node.image_files.hold(&path, &self.changed) {
            tracing::warn!(path = %path.display(), %error, "changes of an image's file will not be seen");
        }
    }

    async fn image(&self, container: &Container) -> Result<(Image, String), Failure> {
        let name = container.image.as_deref().unwrap_or_default();
        let policy = Policy::parse(container.image_pull_policy.as_deref());
        let had = self.wanted().image(name, policy).await;
        had.map_err(|error| image_failure(name, &error, policy == Policy::Never))
    }

    fn wanted(&self) -> pull::Wanted<'_> {
        pull::Wanted {
            node: &self.node,
            pod: &self.pod,
            objects: &self.objects,
            field_path: spec::field_path(&self.pod, self.index),
        }
    }

    /// The image's compiled module. An event says so where that takes a while.
    async fn module(&self, container: &Container, image: &Image, metered: bool) -> Result<Arc<Module>, ModuleError> {
        let mut making = pin!(self.node.module(image, metered));
        if let Ok(made) = tokio::time::timeout(TELL_COMPILING, &mut making).await {
            return made;
        }
        let (name, kib) = (container.image.as_deref().unwrap_or_default(), image.size / 1024);
        let text = format!("Compiling image {name:?} ({kib} KiB) for this machine; the code is kept for later starts");
        self.wanted().tell(false, "Compiling", text);
        making.await
    }

    /// The files of the image, as the container's root directory.
    async fn root(&self, container: &Container, files: PathBuf, mounts: Vec<Mount>) -> Result<Mount, Failure> {
        let (dir, container) = (pod_dir(&self.node, &self.pod), container.clone());
        let accounts = self.accounts.clone();
        let work = move || volume::root::make(&dir, &container, &accounts, &files, &mounts);
        let made = tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        made.map_err(|error| {
            let message = format!("Error: cannot prepare the files of the image: {error}");
            failure(waiting::CREATE, "Failed", message)
        })
    }

    fn spec(
        &self,
        container: &Container,
        image: &ImageConfig,
        (fuel, cpu_by_fuel): (Option<u64>, bool),
    ) -> Result<(ContainerSpec, Option<MessageFile>), Failure> {
        let node = &self.node;
        let facts = Facts {
            pod: &self.pod,
            pod_ips: &self.ips,
            node_name: &node.identity.name,
            host_ip: node.identity.ip,
            allocatable: node.identity.capacity,
        };
        let services = node.fabric.snapshot();
        let launch = env::launch(&facts, container, image, &services.services, &Held(&self.objects))
            .map_err(|error| config_failure(&error))?;
        let scope: env::Env = launch.env.iter().cloned().collect();
        let dir = pod_dir(node, &self.pod);
        let wrong = |error: &dyn std::fmt::Display| failure(waiting::CONFIG, "Failed", format!("Error: {error}"));
        let mut mounts = volume::mounts(&dir, &self.pod, container, &self.accounts, |text| {
            env::expand(text, &[&scope])
        })
        .map_err(|error| wrong(&error))?;
        let message = MessageFile::make(&dir, container, &self.accounts, &mut mounts).map_err(|error| wrong(&error))?;
        let limits = limits(&self.resources);
        let spec = ContainerSpec {
            name: container.name.clone(),
            args: launch.args,
            env: launch.env,
            work_dir: container
                .working_dir
                .clone()
                .unwrap_or_else(|| image.working_dir.clone()),
            mounts,
            files: self.files.clone(),
            net: self.net.clone(),
            sidecar: sidecar::is(&self.pod, &container.name),
            http_port: http_port(container, image),
            memory_limit_bytes: limits.memory_bytes,
            cpu_limit_milli: limits.cpu_milli,
            cpu_request_milli: limits.cpu_request_milli,
            cpu_by_fuel,
            fuel,
            seed: diagnosis::seed(&self.pod).map_err(|error| wrong(&error))?,
            profile: diagnosis::wants_profile(&self.pod, &container.name).then(|| self.log.beside(PROFILE)),
            core_dump: diagnosis::wants_core_dump(&self.pod, &container.name).then(|| self.log.beside(CORE_DUMP)),
            programs: Some(Arc::new(Named {
                node: Arc::downgrade(&self.node),
                pod: self.pod.clone(),
                container: container.name.clone(),
                image: OnceLock::new(),
            })),
            stdin: stdin(container),
            terminal: container.tty.unwrap_or_default(),
            stdout: self.log.stdout(),
            stderr: self.log.stderr(),
        };
        Ok((spec, message))
    }
}

/// The directory of a pod's volumes.
pub fn pod_dir(node: &Node, pod: &Pod) -> std::path::PathBuf {
    node.pods_dir.join(pod.metadata.uid.as_deref().unwrap_or_default())
}

/// Objects that a pod holds.
pub struct Held<'a>(pub &'a [Arc<Watched>]);

impl Lookup for Held<'_> {
    fn find(&self, kind: Kind, name: &str) -> Option<Arc<Payload>> {
        let held = self
            .0
            .iter()
            .find(|held| held.reference.kind == kind && held.reference.name == name)?;
        match held.known() {
            Known::Present(payload) => Some(payload),
            Known::Absent | Known::Nothing => None,
        }
    }
}

/// The limits that hold while a container runs; none means no limit.
pub struct Limits {
    /// Bytes.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core.
    pub cpu_milli: Option<u64>,
    /// Thousandths of a core that it gets when others want to run too.
    pub cpu_request_milli: Option<u64>,
}

/// Reads what a container may use.
pub fn limits(resources: &Resources) -> Limits {
    let positive = |value: i128| u64::try_from(value).ok().filter(|value| *value > 0);
    Limits {
        memory_bytes: resources.limit("memory").and_then(quantity::whole).and_then(positive),
        cpu_milli: resources.limit("cpu").and_then(quantity::milli).and_then(positive),
        cpu_request_milli: resources.request("cpu").and_then(quantity::milli).and_then(positive),
    }
}

fn stdin(container: &Container) -> Stdin {
    match (container.stdin, container.stdin_once) {
        (Some(true), Some(true)) => Stdin::Once,
        (Some(true), _) => Stdin::Open,
        _ => Stdin::Closed,
    }
}

fn http_port(container: &Container, image: &ImageConfig) -> u16 {
    let own = container
        .ports
        .iter()
        .flatten()
        .find_map(|port| u16::try_from(port.container_port).ok());
    own.or_else(|| image.tcp_ports().first().copied())
        .unwrap_or(DEFAULT_HTTP_PORT)
}

fn failure(reason: &'static str, event: &'static str, message: String) -> Failure {
    Failure {
        reason,
        event,
        event_message: message.clone(),
        message,
    }
}

fn image_failure(name: &str, error: &NoImage, never: bool) -> Failure {
    match error {
        NoImage::Absent(ImageError::InvalidReference(_)) => Failure {
            reason: waiting::IMAGE_NAME,
            message: format!("Failed to apply default image tag {name:?}: {error}"),
            event: "InspectFailed",
            event_message: format!("Failed to apply default image tag {name:?}: {error}"),
        },
        _ if never => Failure {
            reason: waiting::IMAGE_NEVER,
            message: format!("Container image {name:?} is not present with pull policy of Never: {error}"),
            event: "ErrImageNeverPull",
            event_message: format!("Container image {name:?} is not present with pull policy of Never: {error}"),
        },
        _ => Failure {
            reason: waiting::IMAGE_PULL,
            message: error.to_string(),
            event: "Failed",
            event_message: format!("Failed to pull image {name:?}: {error}"),
        },
    }
}

fn module_failure(image: &Image, error: &ModuleError) -> Failure {
    let reference = &image.reference;
    match error {
        ModuleError::Image(error) => Failure {
            reason: waiting::IMAGE_PULL,
            message: error.to_string(),
            event: "Failed",
            event_message: format!("Failed to pull image {reference:?}: {error}"),
        },
        ModuleError::Load(LoadError::Closed) => failure(waiting::CREATE, "Failed", error.to_string()),
        ModuleError::Load(_) => failure(
            waiting::CREATE,
            "Failed",
            format!("Error: image {reference:?} cannot run here: {error}"),
        ),
    }
}

fn config_failure(error: &EnvError) -> Failure {
    Failure {
        reason: waiting::CONFIG,
        message: error.to_string(),
        event: "Failed",
        event_message: format!("Error: {error}"),
    }
}
