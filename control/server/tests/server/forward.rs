//! Port-forward by the older WebSocket channels, with a stock client.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::wire::running;
use crate::world::pod;

#[tokio::test]
async fn bytes_go_to_the_pod_and_back() {
    let running = running().await;
    let pods: Api<Pod> = Api::default_namespaced(running.client().await);
    let mut object = pod("a");
    object["spec"]["nodeName"] = json!("n1");
    pods.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
    let mut forward = pods.portforward("a", &[7, 8]).await.unwrap();
    let mut stream = forward.take_stream(7).unwrap();
    let sent: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let mut received = vec![0; sent.len()];
    let (wrote, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut received));
    wrote.unwrap();
    read.unwrap();
    assert!(received == sent);
    let error = forward.take_error(8).unwrap().await.unwrap_or_default();
    assert!(error.contains("connection refused"), "{error}");
}
