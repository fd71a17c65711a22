//! `coracle demo`: starts a cluster, applies the sidecar example, and proves that it works by calling it.
//!
//! Nothing is taken for granted: each step waits for a state of the API, and what is printed came back over the network
//! of the pods. A step that does not happen in time ends the demo with what was waited for.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use indicatif::{ProgressBar, ProgressStyle};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod, core::v1::Service};
use kube::{
    Api, Client,
    api::{LogParams, PostParams},
    runtime::wait::{Condition, await_condition},
};

use crate::{args::DemoArgs, end, manifest, say::say, up};

/// The example that the demo applies; part of the binary, so that an installed one needs no repository.
const EXAMPLE: &str = include_str!("../../examples/sidecar.yaml");
const NAMESPACE: &str = "demo";
const APP: &str = "web";
const URL: &str = "http://web.demo.svc.cluster.local/";

/// The longest that one step may take. The first start compiles the guests; a slow machine needs some seconds for that.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the demo.
///
/// # Errors
/// When a step fails; the message says which.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let cluster = step(
        "start a cluster: API server, controllers, scheduler, one node",
        up::start(&args.cluster),
    )
    .await?;
    let client = cluster.client();
    let shown = tokio::select! {
        shown = show(&client) => shown,
        interrupted = end::told() => interrupted.and_then(|()| bail!("interrupted")),
    };
    if shown.is_ok() {
        say("");
        up::describe(&cluster, &args.cluster)?;
        say(format_args!(
            "\nNext:  kubectl get pods -n {NAMESPACE} -o wide\n       kubectl logs -n {NAMESPACE} deployment/{APP} -c proxy\n       kubectl scale -n {NAMESPACE} deployment/{APP} --replicas=5"
        ));
        if !args.exit {
            say(format_args!(
                "\nCtrl-C stops the cluster; `coracle up` brings it back as it was."
            ));
            end::told().await?;
        }
    }
    end::stop(cluster.shutdown()).await?;
    shown
}

async fn show(client: &Client) -> anyhow::Result<()> {
    step("apply examples/sidecar.yaml", async {
        manifest::apply(client, &manifest::parse(EXAMPLE)?).await
    })
    .await?;
    step(
        "wait until the application and its sidecar are ready",
        available(client),
    )
    .await?;
    let from_pod = step("call it from another pod, by its name in DNS", call_from_pod(client)).await?;
    let (port, from_host) = step("call it from the host, through its node port", call_from_host(client)).await?;
    say(format_args!("\nA pod called {URL} and got:\n\n{}", indented(&from_pod)));
    say(format_args!(
        "\nThe host called http://127.0.0.1:{port}/ and got:\n\n{}",
        indented(&from_host)
    ));
    say(format_args!(
        "\nThe headers x-coracle-sidecar and via were added by the sidecar, which reached the application on the pod's own 127.0.0.1."
    ));
    Ok(())
}

async fn available(client: &Client) -> anyhow::Result<()> {
    let is_available = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|status| status.available_replicas.unwrap_or(0) > 0)
    };
    wait(Api::namespaced(client.clone(), NAMESPACE), APP, is_available)
        .await
        .map(drop)
}

/// Runs a pod that calls the Service by name, and returns what it printed.
async fn call_from_pod(client: &Client) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let caller: Pod = serde_json::from_value(serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "caller-", "labels": {"app": "caller"}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "caller", "image": "caller", "args": [URL]}],
        },
    }))?;
    let created = pods.create(&PostParams::default(), &caller).await?;
    let name = created.metadata.name.context("the server gave the pod no name")?;
    let phase = |pod: &Pod| {
        pod.status
            .as_ref()
            .and_then(|status| status.phase.clone())
            .unwrap_or_default()
    };
    let ended = |pod: Option<&Pod>| pod.is_none_or(|pod| matches!(phase(pod).as_str(), "Succeeded" | "Failed"));
    let pod = wait(pods.clone(), &name, ended)
        .await?
        .context("the calling pod was deleted")?;
    let log = pods.logs(&name, &LogParams::default()).await?;
    ensure!(phase(&pod) == "Succeeded", "the calling pod failed and said:\n{log}");
    check(&log)?;
    Ok(log)
}

/// Calls the Service's node port and returns the answer's headers and body.
async fn call_from_host(client: &Client) -> anyhow::Result<(u16, String)> {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let service = services.get(APP).await?;
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    let port = ports
        .first()
        .and_then(|port| port.node_port)
        .context("the Service has no node port")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port)?));
    let answer = tokio::time::timeout(PATIENCE, get(address))
        .await
        .context("no answer in time")??;
    check(&answer)?;
    Ok((address.port(), answer))
}

async fn get(address: SocketAddr) -> anyhow::Result<String> {
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::get("/")
        .header("host", address.to_string())
        .body(Empty::<bytes::Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let mut text = format!("{:?} {}\n", answer.version(), answer.status());
    for (name, value) in answer.headers() {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    let body = answer.into_body().collect().await?.to_bytes();
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(&body));
    Ok(text)
}

/// The answer must come from the application, through the sidecar.
fn check(answer: &str) -> anyhow::Result<()> {
    ensure!(
        answer.contains("x-coracle-sidecar:"),
        "the answer did not pass through the sidecar:\n{answer}"
    );
    ensure!(
        answer.contains("Ahoy from"),
        "the answer is not the application's:\n{answer}"
    );
    Ok(())
}

/// Waits for a state of one object and returns the object as it then is.
async fn wait<K>(api: Api<K>, name: &str, condition: impl Condition<K>) -> anyhow::Result<Option<K>>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    match tokio::time::timeout(PATIENCE, await_condition(api, name, condition)).await {
        Ok(found) => Ok(found?),
        Err(_) => bail!(
            "{name} did not get there within {} s; `kubectl describe` says why",
            PATIENCE.as_secs()
        ),
    }
}

/// Shows a step while it runs, and how long it took.
async fn step<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let started = Instant::now();
    let progress = ProgressBar::new_spinner().with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(100));
    let result = work.await.with_context(|| format!("could not {what}"));
    progress.finish_and_clear();
    if result.is_ok() {
        say(format_args!("✓ {what} ({} ms)", started.elapsed().as_millis()));
    }
    result
}

fn indented(text: &str) -> String {
    text.trim_end()
        .lines()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_misses_the_sidecar_or_the_application_fails() {
        assert!(check("HTTP/1.1 200 OK\nx-coracle-sidecar: 1\n\nAhoy from web").is_ok());
        assert!(check("HTTP/1.1 200 OK\n\nAhoy from web").is_err());
        assert!(check("HTTP/1.1 200 OK\nx-coracle-sidecar: 1\n\nsomebody else").is_err());
    }
}
