//! Nodes in processes of their own, for those who want a boundary of the operating system around the guests of a kind.
//!
//! Each is this program as `coracle node`, joined to the cluster of the process that starts it, on the same machine. Its Node has
//! a taint that only pods of its RuntimeClass tolerate. A process that ends is started again; all of them end with the one that
//! has started them, however that ends: they see the end of their input.

use std::{fs, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use jiff::SignedDuration;
use k8s_openapi::api::{core::v1::Node, node::v1::RuntimeClass};
use kube::{Api, Client, Resource, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{args::ClusterArgs, cluster::Cluster, data_dir::create_private, say::say, token};

/// The key of the label and of the taint by which pods find such a node, and others do not.
const PROCESS: &str = "coracle.dev/process";
/// How long the token is good with which they join: they do it at once.
const TOKEN_TTL: SignedDuration = SignedDuration::from_hours(1);
/// How long a process may take to stop in order, pods included.
const STOP: Duration = Duration::from_secs(40);
/// The pause before one that ended is started again; doubled each time, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After so long at work it counts as good again.
const GOOD: Duration = Duration::from_secs(60);

/// Reads the name of a process: it becomes a RuntimeClass and the end of a node's name.
///
/// # Errors
/// In words for the user, when it cannot be those.
pub fn name(text: &str) -> Result<String, String> {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.ends_with('-') && text.chars().all(known);
    if !good || text.len() > 50 {
        return Err("a name looks like untrusted: lower case letters, digits and -, a letter first".into());
    }
    match text {
        "coracle" | "coracle-fuel" => Err(format!("{text} is the RuntimeClass of the nodes in this process")),
        _ => Ok(text.to_owned()),
    }
}

/// The processes of a cluster. Dropped without [`Processes::stop`] they end too, but at once.
#[derive(Debug, Default)]
pub struct Processes {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Processes {
    /// Starts those that the arguments name, and returns when their nodes are ready.
    ///
    /// # Errors
    /// When one cannot be started, or ends before it is ready.
    pub async fn start(cluster: &Cluster, args: &ClusterArgs) -> anyhow::Result<Self> {
        let this = Self::default();
        if args.node_process.is_empty() {
            return Ok(this);
        }
        let (access, client) = (cluster.access(), cluster.client());
        let why = Some("for the processes of this cluster".to_owned());
        let join = Join {
            token: token::issue(&client, &access.server, &access.ca_pem, TOKEN_TTL, why).await?,
            pin: coracle_link::authority_pin(&access.ca_pem).context("the cluster's authority is no certificate")?,
            server: access.server.clone(),
        };
        let link = cluster
            .node_address()
            .context("nodes in other processes need --node-listen")?;
        for name in &args.node_process {
            let process = Process::new(name, cluster, args, &join, SocketAddr::new(link.ip(), 0))?;
            announce(&client, name, &process.node).await?;
            let mut running = process.spawn()?;
            process.ready(&mut running).await?;
            say(format_args!(
                "process     {} for pods of the RuntimeClass {name}",
                process.node
            ));
            this.tasks.spawn(process.keep(running, this.stop.clone()));
        }
        Ok(this)
    }

    /// Stops them in order, and waits until they have ended.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What joining takes.
struct Join {
    server: String,
    token: String,
    pin: String,
}

/// A node in a process of its own.
struct Process {
    node: String,
    program: PathBuf,
    args: Vec<String>,
    token: String,
}

impl Process {
    fn new(name: &str, cluster: &Cluster, args: &ClusterArgs, join: &Join, listen: SocketAddr) -> anyhow::Result<Self> {
        let node = format!("coracle-{name}");
        let dir = cluster.data().join("processes").join(name);
        create_private(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // The cluster may have another address than at its last start. The node is known by its name.
        match fs::remove_dir_all(dir.join("node")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", dir.join("node").display()));
            }
            _ => {}
        }
        let path = |path: PathBuf| {
            let text = path.to_str().map(str::to_owned);
            text.with_context(|| format!("{} is not UTF-8", path.display()))
        };
        let mut words = vec!["node".to_owned(), "--until-input-ends".into(), "--no-node-ports".into()];
        let options = [
            ("--join", join.server.clone()),
            ("--ca-hash", join.pin.clone()),
            ("--node-name", node.clone()),
            ("--listen", listen.to_string()),
            ("--node-labels", format!("{PROCESS}={name}")),
            ("--data-dir", path(dir)?),
            ("--images-dir", path(cluster.data().join("images"))?),
            ("--cache-dir", path(cluster.data().join("cache"))?),
        ];
        words.extend(
            options
                .into_iter()
                .flat_map(|(option, value)| [option.to_owned(), value]),
        );
        let allowed = [
            (args.allow_host_paths, "--allow-host-paths"),
            (args.allow_file_images, "--allow-file-images"),
        ];
        words.extend(
            allowed
                .iter()
                .filter(|(allowed, _)| *allowed)
                .map(|(_, option)| (*option).to_owned()),
        );
        if let Some(file) = &args.registry.registry_ca {
            words.extend(["--registry-ca".to_owned(), path(file.clone())?]);
        }
        Ok(Self {
            node,
            program: std::env::current_exe().context("cannot tell where this program is")?,
            args: words,
            token: join.token.clone(),
        })
    }

    fn spawn(&self) -> anyhow::Result<Running> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            // Not as an argument, which every user of the machine may read.
            .env("CORACLE_TOKEN", &self.token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        // Ctrl-C is for the process that has started it.
        #[cfg(unix)]
        command.process_group(0);
        let child = command.spawn();
        let mut child = child.with_context(|| format!("cannot start the process of the node {}", self.node))?;
        Ok(Running {
            // Taken from it, for it would be closed by whoever waits for the end.
            input: child.stdin.take(),
            said: child.stdout.take(),
            child,
        })
    }

    /// Waits until the node is registered.
    async fn ready(&self, running: &mut Running) -> anyhow::Result<()> {
        let said = running.said.take().context("the process has an output")?;
        let mut lines = BufReader::new(said).lines();
        while let Some(line) = lines.next_line().await? {
            if line.starts_with("ready") {
                return Ok(());
            }
        }
        let ended = running.child.wait().await?;
        bail!(
            "the process of the node {} ended: {ended}; what it said is above",
            self.node
        )
    }

    /// Starts it again whenever it ends, until it is to stop.
    async fn keep(self, mut running: Running, stop: CancellationToken) {
        let mut pause = PAUSE;
        loop {
            let started = Instant::now();
            let ended = tokio::select! {
                () = stop.cancelled() => return running.end().await,
                ended = running.child.wait() => ended,
            };
            if started.elapsed() > GOOD {
                pause = PAUSE;
            }
            tracing::error!(node = %self.node, ?ended, "a node's process ended; it is started again");
            running = loop {
                if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                    return;
                }
                pause = LONGEST_PAUSE.min(pause * 2);
                match self.spawn() {
                    Ok(running) => break running,
                    Err(error) => tracing::error!("{error:#}"),
                }
            };
            // What it says is for its first start; it must not wait for a reader.
            running.said = None;
        }
    }
}

/// A process at work.
struct Running {
    child: Child,
    /// Its end is the order to stop.
    input: Option<ChildStdin>,
    said: Option<ChildStdout>,
}

impl Running {
    /// Lets it stop in order.
    async fn end(mut self) {
        self.input = None;
        if timeout(STOP, self.child.wait()).await.is_err() {
            tracing::error!("a node's process does not stop; it is killed");
            drop(self.child.kill().await);
        }
    }
}

/// Makes the RuntimeClass whose pods the node takes, and the Node before anybody can be sent there. What is there already stays
/// as it is: it may have been changed on purpose.
async fn announce(client: &Client, name: &str, node: &str) -> anyhow::Result<()> {
    let class: RuntimeClass = serde_json::from_value(json!({
        "metadata": {"name": name},
        "handler": "coracle",
        "scheduling": {
            "nodeSelector": {PROCESS: name},
            "tolerations": [{"key": PROCESS, "operator": "Equal", "value": name, "effect": "NoSchedule"}],
        },
    }))?;
    let object: Node = serde_json::from_value(json!({
        "metadata": {"name": node, "labels": {PROCESS: name}},
        "spec": {"taints": [{"key": PROCESS, "value": name, "effect": "NoSchedule"}]},
    }))?;
    create(client, &class).await?;
    create(client, &object).await
}

async fn create<K>(client: &Client, object: &K) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    match Api::<K>::all(client.clone())
        .create(&PostParams::default(), object)
        .await
    {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        made => made
            .map(drop)
            .with_context(|| format!("cannot make the {}", K::kind(&()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_good_for_a_class_and_a_node() {
        assert_eq!(name("team-1"), Ok("team-1".to_owned()));
        let long = "a".repeat(51);
        for bad in ["", "1", "-a", "a-", "A", "a.b", "coracle", "coracle-fuel", &long] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }
}
