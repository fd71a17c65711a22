//! Images of registries: pods pull them, with a login where one is wanted, and say what is wrong where they cannot.

use base64::Engine as _;
use clap::Parser as _;
use coracle_images::{ImageConfig, ImageStore, Keyring};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::world::{World, end, ended, main_status, waits};
use server::Server;

#[path = "../../node/images/tests/registry/server.rs"]
#[allow(dead_code)]
mod server;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image as docker builds it from scratch: files, and a program among them.
fn put_image(server: &Server, path: &str, tag: &str, program: &str, files: &[(&str, &[u8])]) -> String {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    let layer = builder.into_inner().unwrap();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Entrypoint": [program], "Env": ["MARK=from the image"]}});
    let config = config.to_string().into_bytes();
    let part = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": server.put_blob(bytes), "size": bytes.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": part(CONFIG, &config), "layers": [part(TAR, &layer)]});
    server.put_manifest(path, tag, MANIFEST, manifest.to_string().as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_an_image_of_a_registry_that_wants_a_login() {
    let (world, server) = (World::start().await, Server::start().await);
    let probe = coracle_fixtures::component("probe").unwrap();
    let id = put_image(
        &server,
        "site",
        "v1",
        "/app.wasm",
        &[("app.wasm", probe), ("srv/page", b"a page")],
    );
    put_image(&server, "native", "v1", "/bin/sh", &[("bin/sh", b"\x7fELF")]);
    let login = base64::engine::general_purpose::STANDARD.encode("me:secret");
    server.lock(&format!("Basic {login}"));
    let (site, native) = (server.name("site:v1"), server.name("native:v1"));

    // Nobody is let in without the Secret.
    world.run("closed", &site, &["env"], "").await;
    let closed = world
        .pod("closed", |pod| {
            waits(pod).is_some_and(|(reason, _)| reason == "ImagePullBackOff")
        })
        .await;
    let (_, message) = waits(&closed).unwrap();
    assert!(
        message.contains("Back-off pulling image") && message.contains("imagePullSecrets"),
        "{message}"
    );
    world.event("Failed to pull image").await;

    // The service account's Secret is that of its pods.
    let auths = json!({"auths": {server.address.to_string(): {"auth": login}}}).to_string();
    world
        .apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: pull}}\ntype: kubernetes.io/dockerconfigjson\nstringData: {{.dockerconfigjson: '{auths}'}}\n"
        ))
        .await;
    let account = json!({"imagePullSecrets": [{"name": "pull"}]});
    world
        .all::<k8s_openapi::api::core::v1::ServiceAccount>()
        .patch("default", &PatchParams::default(), &Patch::Merge(account))
        .await
        .unwrap();
    world.run("env", &site, &["env"], "").await;
    let pod = world.pod("env", ended).await;
    assert!(world.log("env", "main").await.contains(r#"("MARK", "from the image")"#));
    assert_eq!(main_status(&pod).unwrap().image_id, id);
    world.event("Successfully pulled image").await;

    // What is here is not fetched again, unless that is wanted; and it is not asked for where that is forbidden.
    server.asked();
    world.run("page", &site, &["read", "/srv/page"], "").await;
    world.pod("page", ended).await;
    assert_eq!(world.log("page", "main").await, "Ok(\"a page\")\n");
    assert_eq!(server.asked(), Vec::<String>::new());
    world
        .run(
            "always",
            &site,
            &["write", "/srv/page", "other"],
            "imagePullPolicy: Always",
        )
        .await;
    assert_eq!(end(&world.pod("always", ended).await).unwrap().1, 0);
    let asked = server.asked();
    assert!(
        asked.iter().any(|line| line.ends_with("/site/manifests/v1")),
        "{asked:?}"
    );
    assert!(asked.iter().all(|line| !line.contains("/blobs/")), "{asked:?}");
    // Each container begins with the image's own files; one that may not write cannot.
    let locked = "securityContext: {readOnlyRootFilesystem: true}";
    world
        .run("locked", &site, &["write", "/srv/page", "other"], locked)
        .await;
    world.pod("locked", ended).await;
    assert!(world.log("locked", "main").await.starts_with("Err("));
    world.run("fresh", &site, &["read", "/srv/page"], "").await;
    world.pod("fresh", ended).await;
    assert_eq!(world.log("fresh", "main").await, "Ok(\"a page\")\n");
    world.run("never", &native, &[], "imagePullPolicy: Never").await;
    world
        .pod("never", |pod| {
            waits(pod).is_some_and(|(reason, _)| reason == "ErrImageNeverPull")
        })
        .await;
    world.run("native", &native, &[], "").await;
    let native = world
        .pod("native", |pod| {
            waits(pod).is_some_and(|(_, message)| message.contains("linux/amd64"))
        })
        .await;
    assert!(waits(&native).unwrap().1.contains("whose program is \"/bin/sh\""));

    // An image as a volume shows its files.
    world
        .apply(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: volume}}
spec:
  restartPolicy: Never
  containers: [{{name: main, image: {site}, args: [read, /mnt/srv/page], volumeMounts: [{{name: files, mountPath: /mnt}}]}}]
  volumes: [{{name: files, image: {{reference: {site}}}}}]
"
        ))
        .await;
    world.pod("volume", ended).await;
    assert_eq!(world.log("volume", "main").await, "Ok(\"a page\")\n");
    // The pod that was refused is tried again with what the account says only when it is made anew.
    world
        .all::<Pod>()
        .delete("closed", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
}

/// A process that ends with the test.
pub struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts Debian's registry on a free port and returns the address, which it writes to its log.
pub fn docker_registry(dir: &std::path::Path) -> (Running, String) {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let config = dir.join("config.yml");
    let data = dir.join("data");
    let text = format!(
        "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
        data.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new("docker-registry")
        .arg("serve")
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = child.stderr.take().unwrap();
    let running = Running(child);
    let mut lines = BufReader::new(log).lines();
    let address = lines.find_map(|line| {
        let line = line.ok()?;
        let (_, rest) = line.split_once("listening on ")?;
        Some(rest.split(['"', ',']).next()?.to_owned())
    });
    // Its log is read on, or it would stop when the pipe is full.
    std::thread::spawn(move || lines.for_each(drop));
    (running, address.expect("the registry does not say where it listens"))
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    not(has_docker_registry),
    ignore = "docker-registry is missing; `. .ci/install` brings it, or Debian's package of that name"
)]
async fn what_is_pushed_to_a_real_registry_is_pulled_from_it_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (_running, address) = docker_registry(dir.path());
    let world = World::start().await;
    let store = ImageStore::open(dir.path().join("elsewhere")).unwrap();
    let config = ImageConfig {
        entrypoint: vec!["probe".into()],
        ..ImageConfig::default()
    };
    store
        .load("probe", coracle_fixtures::component("probe").unwrap(), &config)
        .unwrap();
    let (name, nobody) = (format!("{address}/team/probe:v1"), Keyring::default());
    let digest = store.push("probe", &name, &nobody).await.unwrap();
    let pinned = format!("{address}/team/probe@{digest}");
    for (pod, image) in [("tagged", &name), ("pinned", &pinned)] {
        let said = world.output(pod, image, &["env"]).await;
        assert!(said.contains("HOSTNAME"), "{said}");
    }
    // As an artifact, for both kinds of WASI at once; a pod takes what does more.
    let data = dir.path().to_str().unwrap();
    std::fs::rename(dir.path().join("elsewhere"), dir.path().join("images")).unwrap();
    let module = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).unwrap();
    let store = ImageStore::open(dir.path().join("images")).unwrap();
    store.load("nothing", &module, &ImageConfig::default()).unwrap();
    for (target, with) in [("both", &["--with", "nothing"][..]), ("one", &[])] {
        let name = format!("{address}/artifacts/{target}:v1");
        let command = [
            "coracle",
            "image",
            "push",
            "probe",
            &name,
            "--artifact",
            "--data-dir",
            data,
        ];
        let cli = coracle::args::Cli::parse_from([&command[..], with].concat());
        let coracle::args::Command::Image(command) = cli.command else {
            panic!("{:?}", cli.command);
        };
        coracle::image::run(command).await.unwrap();
        let command = "command: [probe], imagePullPolicy: Always";
        world.run(target, &name, &["env"], command).await;
        world.pod(target, ended).await;
        assert!(world.log(target, "main").await.contains("HOSTNAME"));
    }
    for (image, words) in [
        ("team/probe:v2", "it has the tags v1"),
        ("nobody:v1", "it has no repository nobody"),
    ] {
        let refused = store
            .pull(&format!("{address}/{image}"), &nobody)
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains(words), "{refused}");
    }
}
