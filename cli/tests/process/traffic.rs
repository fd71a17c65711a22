//! A pod's traffic, followed and captured by the binary's own commands.

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use serde_json::json;

use super::{Process, Up, next};

impl Up {
    async fn run(&self, name: &str, image: &str, args: &[&str]) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
            "restartPolicy": "Never", "containers": [{"name": "main", "image": image, "args": args}]}}))
        .unwrap();
        self.all::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
    }
}

/// The packets of a pcapng file.
fn packets(file: &[u8]) -> Vec<&[u8]> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!(
        (word(0), word(8)),
        (0x0a0d_0d0a, 0x1a2b_3c4d),
        "it begins as a pcapng file"
    );
    let (mut at, mut packets) = (0, Vec::new());
    while at < file.len() {
        let length = word(at + 4) as usize;
        assert_eq!(word(at + length - 4) as usize, length);
        if word(at) == 6 {
            packets.push(&file[at + 28..at + 28 + word(at + 20) as usize]);
        }
        at += length;
    }
    packets
}

#[tokio::test]
async fn a_pods_traffic_is_followed_and_captured() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path()).await;
    up.run("web", "hello", &[]).await;
    let web = up.restarted("web", 0).await;
    let ip = web.status.unwrap().pod_ip.unwrap();
    let kubeconfig = data.path().join("kubeconfig");
    let file = data.path().join("web.pcapng");
    let common = ["--kubeconfig", kubeconfig.to_str().unwrap()];
    let mut capture = Process::start(&[&["net", "capture", "web", "-o", file.to_str().unwrap()], &common[..]].concat());
    capture.complains("capturing default/web").await;
    let mut trace = Process::start(&[&["net", "trace", "pod/web"], &common[..]].concat());
    up.run("ask", "caller", &[&format!("http://{ip}:8080/")]).await;
    let closed = next(&mut trace.said, |line| line.contains("closed, sent"))
        .await
        .unwrap();
    assert!(
        closed.contains(" inbound ") && closed.contains(&format!("-> {ip}:8080")),
        "{closed}"
    );

    // What was sent before the end of the connection was told is fetched at the latest now.
    let whole = async {
        loop {
            let captured = std::fs::read(&file).unwrap();
            let packets: Vec<&[u8]> = packets(&captured);
            let text = packets
                .iter()
                .map(|packet| String::from_utf8_lossy(packet))
                .collect::<String>();
            // The last packet of a connection is a FIN.
            if text.contains("Hello from web") && packets.last().is_some_and(|packet| packet[33] & 1 == 1) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(super::PATIENCE, whole)
        .await
        .expect("the answer was not captured");
    assert!(capture.end("INT").await.success());
    trace.end("INT").await;
    let (counted, _) = {
        let mut once = Process::start(&[&["net", "trace", "web", "--no-follow"], &common[..]].concat());
        let line = next(&mut once.said, |line| line.contains("openedInbound"))
            .await
            .unwrap();
        (line, once.ended().await)
    };
    assert!(counted.contains("\"openedInbound\":1"), "{counted}");
    let mut absent = Process::start(&[&["net", "trace", "absent"], &common[..]].concat());
    absent.complains("\"absent\" not found").await;

    // What Wireshark makes of it, where it is at hand.
    let read = std::process::Command::new("tshark")
        .args([
            "-r",
            file.to_str().unwrap(),
            "-Y",
            "http.response",
            "-T",
            "fields",
            "-e",
            "http.response.code",
        ])
        .output();
    match read {
        Ok(read) => assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), "200", "{read:?}"),
        Err(error) => println!("tshark does not read the capture here: {error}"),
    }
}
