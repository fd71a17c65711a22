//! exec and attach: with a stock client over WebSockets, and by hand over the older protocols.

use futures::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, PostParams, TerminalSize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::wire::{Running, running};
use crate::world::pod;

/// A server with a pod that has a node, and the pods of its namespace.
async fn with_pod() -> (Running, Api<Pod>) {
    let running = running().await;
    let pods: Api<Pod> = Api::default_namespaced(running.client().await);
    let mut object = pod("a");
    object["spec"]["nodeName"] = json!("n1");
    pods.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
    (running, pods)
}

#[tokio::test]
async fn input_comes_back_as_output_and_the_end_is_a_success() {
    let (_running, pods) = with_pod().await;
    let mut process = pods
        .exec("a", ["cat"], &AttachParams::default().stdin(true).stderr(false))
        .await
        .unwrap();
    let mut stdin = process.stdin().unwrap();
    let mut stdout = process.stdout().unwrap();
    let sent: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    let send = async {
        stdin.write_all(&sent).await.unwrap();
        stdin.shutdown().await.unwrap();
        drop(stdin);
    };
    let mut received = Vec::new();
    tokio::join!(send, async { stdout.read_to_end(&mut received).await.unwrap() });
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(status.status.as_deref(), Some("Success"));
}

#[tokio::test]
async fn exit_codes_and_failures_are_told() {
    let (_running, pods) = with_pod().await;
    let mut process = pods.exec("a", ["exit", "42"], &AttachParams::default()).await.unwrap();
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    let cause = &status.details.unwrap().causes.unwrap()[0];
    assert_eq!(
        (cause.reason.as_deref(), cause.message.as_deref()),
        (Some("ExitCode"), Some("42"))
    );
    let mut process = pods.exec("a", ["missing"], &AttachParams::default()).await.unwrap();
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("InternalError"));
    assert!(status.message.unwrap().contains("no such program"));
}

#[tokio::test]
async fn a_terminal_has_a_size_and_an_attached_client_no_exit_code() {
    let (_running, pods) = with_pod().await;
    let mut process = pods
        .exec("a", ["size"], &AttachParams::interactive_tty())
        .await
        .unwrap();
    let mut sizes = process.terminal_size().unwrap();
    sizes.send(TerminalSize { width: 132, height: 43 }).await.unwrap();
    let mut text = String::new();
    process.stdout().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "132x43");
    let mut attached = pods.attach("a", &AttachParams::default()).await.unwrap();
    let mut text = String::new();
    attached.stdout().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "attached to c");
    let status = attached.take_status().unwrap().await.unwrap();
    assert_eq!(status.status.as_deref(), Some("Success"));
}

#[tokio::test]
async fn the_oldest_websocket_protocol_says_nothing_at_a_good_end() {
    let (running, _pods) = with_pod().await;
    let path = "/api/v1/namespaces/default/pods/a/exec?command=hello&command=there&stderr=1";
    let mut socket = running.web_socket(path, "channel.k8s.io").await;
    let mut messages = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        messages.push(message);
    }
    assert!(matches!(&messages[0], Message::Binary(bytes) if bytes.as_ref() == b"\x02hello there"));
    assert!(
        matches!(&messages[1], Message::Close(Some(frame)) if u16::from(frame.code) == 1000),
        "{messages:?}"
    );
    assert_eq!(messages.len(), 2);
}

#[tokio::test]
async fn base64_messages_are_text() {
    let (running, _pods) = with_pod().await;
    let path = "/api/v1/namespaces/default/pods/a/exec?command=exit&command=3&stdout=1";
    let mut socket = running.web_socket(path, "v4.base64.channel.k8s.io").await;
    let Some(Ok(Message::Text(text))) = socket.next().await else {
        panic!("no text")
    };
    assert!(text.starts_with('3'));
    let json = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &text[1..]).unwrap();
    let status: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "3");
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_the_upgrade() {
    let (running, pods) = with_pod().await;
    let code = |result: Result<_, kube::Error>| match result {
        Err(error) => format!("{error:?}"),
        Ok::<kube::api::AttachedProcess, _>(_) => panic!("connected"),
    };
    let other = AttachParams::default().container("x");
    assert!(code(pods.exec("a", ["ls"], &other).await).contains("400"));
    assert!(code(pods.exec("b", ["ls"], &AttachParams::default()).await).contains("404"));
    let answer = running.raw("GET /api/v1/namespaces/default/pods/a/exec?command=x&stdout=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("Upgrade request required"),
        "{answer}"
    );
    let answer = running
        .raw("GET /api/v1/namespaces/default/pods/a/exec?command=x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    assert!(
        answer.contains("you must specify at least 1 of stdin, stdout, stderr"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_program() {
    let (running, pods) = with_pod().await;
    let process = pods.exec("a", ["forever"], &AttachParams::default()).await.unwrap();
    drop(process);
    // The server drains at once only if nothing holds the connection.
    running.shutdown.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(5), running.task)
        .await
        .expect("drained")
        .unwrap()
        .unwrap();
}
