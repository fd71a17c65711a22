//! `coracle net`: the traffic of a pod, as its node tells it.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use coracle_net::capture::pcapng;
use http::Request;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

use crate::args::{NetCommand, PodArgs};

/// The name of the virtual interface in a capture's file.
const INTERFACE: &str = "eth0";

/// Runs a command on the traffic of a pod.
///
/// # Errors
/// When the pod cannot be found or its node does not tell of it, or the file cannot be written.
pub async fn run(command: NetCommand) -> anyhow::Result<()> {
    match command {
        NetCommand::Trace { pod, no_follow } => trace(&Traced::find(&pod).await?, !no_follow).await,
        NetCommand::Capture { pod, output } => capture(&Traced::find(&pod).await?, &output).await,
    }
}

/// A pod and the way to ask for its traffic.
struct Traced {
    client: Client,
    node: String,
    namespace: String,
    pod: String,
}

impl Traced {
    async fn find(args: &PodArgs) -> anyhow::Result<Self> {
        let config = config(args.kubeconfig.as_deref(), args.context.clone()).await?;
        let namespace = args
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config)?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let name = args.pod.strip_prefix("pod/").unwrap_or(&args.pod).to_owned();
        let pod = pods.get(&name).await?;
        let node = pod.spec.and_then(|spec| spec.node_name);
        let node = node.with_context(|| format!("pod {name:?} has no node yet"))?;
        Ok(Self {
            client,
            node,
            namespace,
            pod: name,
        })
    }

    /// What the node answers to a question of this kind.
    async fn ask(&self, kind: &str, query: &str) -> anyhow::Result<Vec<u8>> {
        let (node, namespace, pod) = (&self.node, &self.namespace, &self.pod);
        let path = format!("/api/v1/nodes/{node}/proxy/net/{kind}/{namespace}/{pod}{query}");
        let answer = self.client.send(Request::get(path).body(Body::empty())?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            let said: Value = serde_json::from_slice(&body).unwrap_or_default();
            bail!(
                "the traffic of pod {pod:?}: {}",
                said.get("message").and_then(Value::as_str).unwrap_or(status.as_str())
            );
        }
        Ok(body.to_vec())
    }
}

/// As kubectl finds it, unless a file is named.
async fn config(file: Option<&Path>, context: Option<String>) -> anyhow::Result<Config> {
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    let config = match file {
        Some(file) => Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &options).await,
        None => Config::from_kubeconfig(&options).await,
    };
    config.context("cannot tell which cluster: name a file with --kubeconfig, or start one with `coracle up`")
}

async fn trace(traced: &Traced, follow: bool) -> anyhow::Result<()> {
    let mut next = 0;
    let mut out = std::io::stdout();
    loop {
        // What has happened so far is answered at once; without anything the node waits for the first.
        let query = format!("?after={next}&wait={follow}");
        let answer = tokio::select! {
            answer = traced.ask("flows", &query) => answer?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let answer: Value = serde_json::from_slice(&answer)?;
        let flows = answer.get("flows").and_then(Value::as_array);
        for flow in flows.into_iter().flatten() {
            let number = flow.get("number").and_then(Value::as_u64).unwrap_or_default();
            if next > 0 && number > next + 1 {
                writeln!(out, "... {} records came too fast to be shown", number - next - 1)?;
            }
            next = number;
            writeln!(out, "{}", line(flow))?;
        }
        if !follow {
            writeln!(out, "{}", serde_json::to_string(&answer.get("counts"))?)?;
            return Ok(());
        }
        out.flush()?;
    }
}

/// A record as one line.
fn line(flow: &Value) -> String {
    let text = |key: &str| flow[key].as_str().unwrap_or("-");
    let (from, to) = match text("direction") {
        "inbound" => (text("peer"), text("local")),
        _ => (text("local"), text("peer")),
    };
    let event = match text("event") {
        "closed" => format!(
            "closed, sent {} B, received {} B",
            flow["sentBytes"], flow["receivedBytes"]
        ),
        "failed" => format!("failed: {}", text("error")),
        other => other.to_owned(),
    };
    format!(
        "{} {:8} {} {from} -> {to} {event}",
        text("time"),
        text("direction"),
        text("protocol")
    )
}

async fn capture(traced: &Traced, output: &PathBuf) -> anyhow::Result<()> {
    let mut file: Box<dyn Write> = match output.as_os_str() == "-" {
        true => Box::new(std::io::stdout()),
        false => Box::new(std::fs::File::create(output).with_context(|| format!("cannot write {}", output.display()))?),
    };
    file.write_all(&pcapng::header(INTERFACE))?;
    file.flush()?;
    let mut answer = traced.ask("capture", "?wait=false").await?;
    eprintln!("capturing {}/{} until Ctrl-C", traced.namespace, traced.pod);
    loop {
        let (lost, packets) = answer.split_first_chunk().context("the node's answer is none")?;
        let lost = u64::from_be_bytes(*lost);
        if lost > 0 {
            eprintln!("{lost} packets came too fast and are not in the file");
        }
        file.write_all(packets)?;
        file.flush()?;
        answer = tokio::select! {
            answer = traced.ask("capture", "") => answer?,
            _ = tokio::signal::ctrl_c() => break,
        };
    }
    traced.ask("capture", "?end=true").await.map(drop)
}
