//! Paths and links out of a volume, tried by the guest and left lying for the node.

use coracle_isolation::world::{ended, main_status, phase, waits};
use k8s_openapi::api::core::v1::Pod;

use crate::canary::{Canary, WORDS};

/// A pod with a volume of every kind, and what it runs.
fn pod(name: &str, args: &[&str], limit: &str) -> String {
    let args = serde_json::to_string(args).unwrap();
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: hostile
    args: {args}
    volumeMounts:
    - {{name: room, mountPath: /room}}
    - {{name: second, mountPath: /second}}
    - {{name: settings, mountPath: /settings}}
    - {{name: hidden, mountPath: /hidden}}
    - {{name: all, mountPath: /all}}
  volumes:
  - {{name: room, emptyDir: {{{limit}}}}}
  - {{name: second, emptyDir: {{}}}}
  - {{name: settings, configMap: {{name: settings}}}}
  - {{name: hidden, secret: {{secretName: hidden}}}}
  - {{name: all, projected: {{sources: [{{configMap: {{name: settings}}}}, {{downwardAPI: {{items: [{{path: name, fieldRef: {{fieldPath: metadata.name}}}}]}}}}]}}}}
"
    )
}

const OBJECTS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {password: hunter2}
";

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out_of_a_volume() {
    let _alone = crate::alone().await;
    let (world, canary) = (crate::world().await, Canary::new());
    world.apply(OBJECTS).await;
    let target = canary.file().display().to_string();
    for (name, limit) in [("open", ""), ("counted", "sizeLimit: 1Mi")] {
        world.apply(&pod(name, &["paths", &target], limit)).await;
        let ended = world.pod(name, ended).await;
        let said = world.log(name, "main").await;
        assert_eq!(phase(&ended), "Succeeded", "{said}");
        assert!(
            said.ends_with("tried\n") && !said.contains("out:") && !said.contains(WORDS),
            "{said}"
        );
        // It was tried in earnest: what stays inside may be written.
        assert!(said.contains("wrote by "), "{said}");
        canary.is_untouched();
    }
    // Files that are odd, and none that ends the host.
    for (name, limit) in [("odd", ""), ("odd-counted", "sizeLimit: 1Mi")] {
        world.apply(&pod(name, &["places"], limit)).await;
        let ended = world.pod(name, ended).await;
        let said = world.log(name, "main").await;
        assert!(phase(&ended) == "Succeeded" && said.ends_with("tried\n"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_race_leads_out_of_a_volume() {
    let _alone = crate::alone().await;
    let (world, canary) = (crate::world().await, Canary::new());
    let up = format!("{}{}", "../".repeat(30), canary.directory().trim_start_matches('/'));
    let script = |name: &str, target: &str, limit: &str| {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  volumes: [{{name: room, emptyDir: {{{limit}}}}}]
  containers:
  - {{name: main, image: hostile, args: [chase, file], volumeMounts: [{{name: room, mountPath: /room}}]}}
  - {{name: flip, image: hostile, args: [flip, '{target}'], volumeMounts: [{{name: room, mountPath: /room}}]}}
"
        )
    };
    world.apply(&script("open", &up, "")).await;
    world.apply(&script("counted", &up, "sizeLimit: 1Mi")).await;
    for name in ["open", "counted"] {
        world.says(name, "flip", "flips").await;
        let said = world.says(name, "main", "chased").await;
        assert!(!said.contains("out:"), "{said}");
        // The other side of the race was there to the end.
        let pod = world
            .pod(name, |pod| {
                main_status(pod).is_some_and(|s| s.state.as_ref().is_some_and(|s| s.terminated.is_some()))
            })
            .await;
        assert_eq!(phase(&pod), "Running");
    }
    canary.is_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_follows_no_link_of_a_guest() {
    let _alone = crate::alone().await;
    let (world, canary) = (crate::world().await, Canary::new());
    // Links that say where they lead from the root are refused; these go up as far as there is anything.
    let dir = format!("{}{}", "../".repeat(30), canary.directory().trim_start_matches('/'));
    let file = format!("{dir}/file");
    // The message of a container's end, at its own place and in a volume, and a part of a volume that is mounted by its path.
    world
        .apply(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: message}}
spec:
  restartPolicy: Never
  volumes: [{{name: room, emptyDir: {{}}}}]
  containers:
  - {{name: main, image: toolbox, command: [sh, -c, 'rm /dev/termination-log; ln -s {file} /dev/termination-log && echo linked; exit 1']}}
  - {{name: other, image: toolbox, command: [sh, -c, 'ln -s {file} /room/end && echo linked; exit 1'], terminationMessagePath: /room/end, volumeMounts: [{{name: room, mountPath: /room}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: part}}
spec:
  restartPolicy: Never
  volumes: [{{name: room, emptyDir: {{}}}}]
  initContainers:
  - {{name: first, image: toolbox, command: [sh, -c, 'ln -s {dir} /room/part'], volumeMounts: [{{name: room, mountPath: /room}}]}}
  containers:
  - {{name: main, image: toolbox, command: [sh, -c, 'cat /part/file; echo touched >/part/new'], volumeMounts: [{{name: room, mountPath: /part, subPath: part}}]}}
"
        ))
        .await;
    let message = world.pod("message", ended).await;
    for container in ["main", "other"] {
        assert_eq!(world.log("message", container).await, "linked\n");
    }
    let shown = serde_json::to_string(&message).unwrap();
    assert!(!shown.contains(WORDS), "{shown}");
    let part: Pod = world
        .pod("part", |pod| {
            waits(pod).is_some_and(|(reason, _)| reason == "CreateContainerConfigError")
        })
        .await;
    let shown = serde_json::to_string(&part).unwrap();
    assert!(!shown.contains(WORDS), "{shown}");
    canary.is_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_of_the_host_and_its_files_as_images_are_not_to_be_had() {
    let _alone = crate::alone().await;
    let (world, canary) = (crate::world().await, Canary::new());
    let dir = canary.directory();
    world
        .apply(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: mounts}}
spec:
  containers: [{{name: main, image: toolbox, command: [sleep, '60'], volumeMounts: [{{name: host, mountPath: /host}}]}}]
  volumes: [{{name: host, hostPath: {{path: '{dir}'}}}}]
---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: stolen}}
spec: {{capacity: {{storage: 1Mi}}, accessModes: [ReadWriteOnce], storageClassName: '', hostPath: {{path: '{dir}'}}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: stolen}}
spec: {{storageClassName: '', volumeName: stolen, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: claims}}
spec:
  containers: [{{name: main, image: toolbox, command: [sleep, '60'], volumeMounts: [{{name: host, mountPath: /host}}]}}]
  volumes: [{{name: host, persistentVolumeClaim: {{claimName: stolen}}}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: runs}}
spec:
  containers: [{{name: main, image: 'file://{dir}/file'}}]
"
        ))
        .await;
    for pod in ["mounts", "claims"] {
        world.event("is a hostPath, which this node does not allow").await;
        world.pod(pod, |pod| phase(pod) == "Pending").await;
    }
    let runs = world
        .pod("runs", |pod| {
            waits(pod).is_some_and(|(reason, _)| reason != "ContainerCreating")
        })
        .await;
    let shown = serde_json::to_string(&runs).unwrap();
    assert!(!shown.contains(WORDS), "{shown}");
    canary.is_untouched();
}
