//! Words of a guest where a person, a terminal or a program reads them: logs, messages, names.

use coracle_isolation::world::{end, ended, main_status};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{LogParams, PostParams};
use serde_json::json;

use coracle_isolation::attacks::ATTACKS;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_forges_lines_of_a_log() {
    let _alone = crate::alone().await;
    let world = crate::world().await;
    world.run("forger", "hostile", &["escapes"], "").await;
    world.pod("forger", ended).await;
    let options = LogParams {
        timestamps: true,
        ..LogParams::default()
    };
    let log = world.all::<Pod>().logs("forger", &options).await.unwrap();
    let lines: Vec<&str> = log.split_terminator('\n').collect();
    // The lines that it wrote, each with a time of ours before it, and none that was parsed out of another.
    assert_eq!(lines.len(), 6, "{log:?}");
    let year = |line: &&str| line[..4].parse::<u32>().is_ok() && line.as_bytes()[4] == b'-';
    assert!(lines.iter().all(year), "{log:?}");
    assert!(!lines[0].starts_with("2026-01-01T00:00:00"), "{log:?}");
    assert!(
        lines[0].ends_with(" 2026-01-01T00:00:00.000000000Z stdout F forged by the guest"),
        "{log:?}"
    );
    assert!(lines[5].ends_with(" end"), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_short_and_plain_whatever_names_a_program_has() {
    let _alone = crate::alone().await;
    let world = crate::world().await;
    let attack = ATTACKS.iter().find(|attack| attack.name == "long-names").unwrap();
    attack.load(&world);
    world.run("names", attack.name, &[], "").await;
    let pod = world.pod("names", ended).await;
    assert_eq!(end(&pod), Some(("Error".to_owned(), 134)));
    let ended = main_status(&pod).unwrap().state.clone().unwrap().terminated.unwrap();
    let message = ended.message.unwrap();
    assert!(
        message.len() <= 4096 && message.contains("  at "),
        "{} bytes",
        message.len()
    );
    let plain = |text: &str| text.chars().all(|c| c == '\n' || !c.is_control());
    assert!(plain(&message), "{message:?}");
    let log = world.log("names", "main").await;
    assert!(log.len() <= 8192 && plain(&log), "{} bytes", log.len());
}

/// Names that a shell, a terminal or YAML would read as something else. The API takes none of them.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_more_than_names_are_refused() {
    let _alone = crate::alone().await;
    let world = crate::world().await;
    let pods = world.all::<Pod>();
    let odd = [
        "$(reboot)",
        "`reboot`",
        "a;b",
        "a b",
        "a\nb",
        "a\u{1b}[31m",
        "../a",
        "a/b",
        "-rf",
        "a\0b",
        "\u{202e}a",
        "%2e%2e",
        "A",
    ];
    for name in odd {
        let container = json!({"name": "c", "image": "hello"});
        let mounts = json!([{"name": "v", "mountPath": "/v", "subPath": format!("../{name}")}]);
        let cases = [
            json!({"metadata": {"name": name}, "spec": {"containers": [container]}}),
            json!({"metadata": {"name": "fine"}, "spec": {"containers": [{"name": name, "image": "hello"}]}}),
            json!({"metadata": {"name": "fine", "labels": {"l": name}}, "spec": {"containers": [container], "nodeName": name}}),
            json!({"metadata": {"name": "fine"}, "spec": {"containers": [{"name": "c", "image": "hello", "volumeMounts": mounts}], "volumes": [{"name": "v", "emptyDir": {}}]}}),
        ];
        for (number, pod) in cases.into_iter().enumerate() {
            let pod: Pod = serde_json::from_value(pod).unwrap();
            match pods.create(&PostParams::default(), &pod).await {
                Err(kube::Error::Api(status)) => assert_eq!(status.code, 422, "{number} {name:?}: {status:?}"),
                other => panic!("{number} {name:?}: {other:?}"),
            }
        }
    }
    assert!(pods.get_opt("fine").await.unwrap().is_none());
}
