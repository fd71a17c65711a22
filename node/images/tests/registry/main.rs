//! Pulling and pushing, against a registry in this process and against Debian's where it is at hand.

// The allowances for tests cover functions marked as tests only.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod server;

use base64::Engine as _;
use coracle_images::{Build, ImageConfig, ImageStore, Interfaces, Keyring};
use serde_json::{Value, json};
use server::{Server, digest};
use std::io::Write;

/// The smallest module: its header.
const WASM: &[u8] = b"\0asm\x01\0\0\0";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

struct Local {
    dir: tempfile::TempDir,
    store: ImageStore,
}

fn local() -> Local {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    Local { dir, store }
}

impl Local {
    async fn refusal(&self, reference: &str) -> String {
        let refused = self.store.pull(reference, &Keyring::default()).await;
        refused.unwrap_err().to_string()
    }

    /// Every file of the store below a directory.
    fn files(&self, dir: &str) -> usize {
        std::fs::read_dir(self.dir.path().join(dir)).map_or(0, Iterator::count)
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// Puts an image of these layers; returns the bytes of its manifest.
fn put(server: &Server, path: &str, tag: &str, config: (&str, &Value), layers: &[(&str, &[u8])]) -> Vec<u8> {
    let bytes = serde_json::to_vec(config.1).unwrap();
    server.put_blob(&bytes);
    let layers: Vec<_> = layers
        .iter()
        .map(|(media_type, bytes)| {
            server.put_blob(bytes);
            descriptor(media_type, bytes)
        })
        .collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(config.0, &bytes), "layers": layers});
    let manifest = serde_json::to_vec(&manifest).unwrap();
    server.put_manifest(path, tag, MANIFEST, &manifest);
    manifest
}

/// The layout of the CNCF for a module or component.
fn put_artifact(server: &Server, path: &str, tag: &str) -> Vec<u8> {
    let config = json!({"created": "2026-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip2", "layerDigests": [digest(WASM)]});
    put(
        server,
        path,
        tag,
        ("application/vnd.wasm.config.v0+json", &config),
        &[("application/wasm", WASM)],
    )
}

fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&builder.into_inner().unwrap()).unwrap();
    encoder.finish().unwrap()
}

fn linux(config: Value) -> Value {
    json!({"architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": []}})
}

#[tokio::test]
async fn an_artifact_comes_by_tag_and_by_digest_and_only_once() {
    let (server, local) = (Server::start().await, local());
    let manifest = put_artifact(&server, "team/app", "v1");
    let name = server.name("team/app:v1");
    let pulled = local.store.pull(&name, &Keyring::default()).await.unwrap();
    assert_eq!(pulled.image.wasm().unwrap(), WASM);
    assert_eq!(*pulled.image.id, *digest(&manifest));
    assert!(pulled.bytes > 0);
    server.asked();
    let again = local.store.pull(&name, &Keyring::default()).await.unwrap();
    assert_eq!(again.bytes, 0);
    assert!(server.asked().iter().all(|line| !line.contains("/blobs/")));

    let pinned = server.name(&format!("team/app@{}", digest(&manifest)));
    assert_eq!(
        local.store.resolve(&pinned).unwrap().reference,
        pinned,
        "it is here under another name"
    );
    let elsewhere = self::local();
    let pulled = elsewhere.store.pull(&pinned, &Keyring::default()).await.unwrap();
    assert_eq!(*pulled.image.id, *digest(&manifest));
    elsewhere.store.resolve(&pinned).unwrap();
}

#[tokio::test]
async fn a_tag_that_moves_is_followed() {
    let (server, local) = (Server::start().await, local());
    let name = server.name("app");
    put_artifact(&server, "app", "latest");
    let first = local.store.pull(&name, &Keyring::default()).await.unwrap();
    let other = [WASM, b"\0\x02\x01a"].concat();
    put(
        &server,
        "app",
        "latest",
        (CONFIG, &json!({})),
        &[("application/wasm", &other)],
    );
    let second = local.store.pull(&name, &Keyring::default()).await.unwrap();
    assert_ne!(first.image.id, second.image.id);
    assert_eq!(local.store.resolve(&name).unwrap().wasm().unwrap(), other);
}

#[tokio::test]
async fn an_ordinary_image_brings_its_files_and_an_index_its_build_for_wasm() {
    let (server, local) = (Server::start().await, local());
    let config = linux(json!({"Entrypoint": ["app.wasm"], "Cmd": ["--serve"], "WorkingDir": "/srv", "Env": ["A=1"]}));
    let layers = [
        layer(&[("srv/app.wasm", WASM), ("srv/old.txt", b"old"), ("etc/motd", b"hi")]),
        layer(&[("srv/.wh.old.txt", b""), ("srv/page.html", b"<p>")]),
    ];
    let layers: Vec<(&str, &[u8])> = layers.iter().map(|layer| (TAR_GZIP, layer.as_slice())).collect();
    let wasm = put(&server, "site", "wasm", (CONFIG, &config), &layers);
    let native = put(
        &server,
        "site",
        "native",
        (CONFIG, &linux(json!({"Cmd": ["/bin/sh"]}))),
        &[],
    );
    let build = |bytes: &[u8], os: &str, architecture: &str| {
        let mut build = descriptor(MANIFEST, bytes);
        build["platform"] = json!({"os": os, "architecture": architecture});
        build
    };
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [build(&native, "linux", "amd64"), build(&wasm, "wasi", "wasm")]});
    let index = serde_json::to_vec(&index).unwrap();
    server.put_manifest("site", "v1", INDEX, &index);

    let name = server.name("site:v1");
    let image = local.store.pull(&name, &Keyring::default()).await.unwrap().image;
    assert_eq!(image.wasm().unwrap(), WASM);
    assert_eq!(*image.id, *digest(&wasm));
    assert_eq!(
        (image.config.entrypoint[0].as_str(), image.config.cmd[0].as_str()),
        ("app.wasm", "--serve")
    );
    let root = image.files.clone().unwrap();
    assert_eq!(std::fs::read_to_string(root.join("srv/page.html")).unwrap(), "<p>");
    assert!(!root.join("srv/old.txt").exists());
    // What the registry calls it is known here too.
    local
        .store
        .resolve(&server.name(&format!("site@{}", digest(&index))))
        .unwrap();
    assert_eq!(local.store.pull(&name, &Keyring::default()).await.unwrap().bytes, 0);

    let refused = local.refusal(&server.name("site:native")).await;
    assert!(
        refused.contains("this is a linux/amd64 image, whose program is \"/bin/sh\""),
        "{refused}"
    );

    local.store.remove(&name).unwrap();
    assert_eq!(
        (local.files("files"), local.files("blobs/sha256")),
        (0, 1),
        "only the configuration of the refused one is left"
    );
}

#[tokio::test]
async fn what_goes_through_a_registry_stays_the_same() {
    let (server, local) = (Server::start().await, local());
    let config = ImageConfig {
        entrypoint: vec!["app".into()],
        env: vec!["A=1".into()],
        ..ImageConfig::default()
    };
    // More than one part of an upload.
    let module = [WASM, &vec![0; 5 << 20]].concat();
    local.store.load("app", &module, &config).unwrap();
    let target = server.name("team/app:v2");
    let digest = local.store.push("app", &target, &Keyring::default()).await.unwrap();
    let elsewhere = self::local();
    let image = elsewhere.store.pull(&target, &Keyring::default()).await.unwrap().image;
    assert_eq!((&*image.id, &*image.config), (digest.as_str(), &config));
    assert_eq!(image.wasm().unwrap(), module);

    // What is part of the binary, and what was pulled, can be pushed as well.
    let hello = server.name("hello:v1");
    local.store.push("hello", &hello, &Keyring::default()).await.unwrap();
    let pulled = elsewhere.store.pull(&hello, &Keyring::default()).await.unwrap().image;
    assert_eq!(pulled.id, local.store.resolve("hello").unwrap().id);
    let copy = server.name("copy:v1");
    elsewhere.store.push(&hello, &copy, &Keyring::default()).await.unwrap();

    let nowhere = local
        .store
        .push("app", "app:v2", &Keyring::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(nowhere.contains("localhost:5000/app:v1"), "{nowhere}");
}

#[tokio::test]
async fn an_artifact_says_what_its_module_needs_and_several_builds_are_an_index() {
    let (server, local) = (Server::start().await, local());
    let component = [b"\0asm".as_slice(), &[0x0d, 0, 1, 0]].concat();
    local.store.load("app:p1", WASM, &ImageConfig::default()).unwrap();
    local.store.load("app:p2", &component, &ImageConfig::default()).unwrap();
    let names = Interfaces {
        exports: vec!["wasi:cli/run@0.2.3".into()],
        imports: vec!["wasi:cli/stdout@0.2.3".into()],
    };
    let [first, second] =
        [("app:p1", None), ("app:p2", Some(names))].map(|(reference, component)| Build { reference, component });
    let (target, nobody) = (server.name("app:v1"), Keyring::default());
    let both = [first.clone(), second];
    let digest = local.store.push_artifact(&both, &target, &nobody).await.unwrap();

    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let (media_type, index) = server.manifest("app", "v1");
    assert_eq!((media_type.as_str(), &digest), (INDEX, &self::digest(&index)));
    let listed = json(&index)["manifests"].as_array().unwrap().clone();
    let platforms: Vec<_> = listed.iter().map(|build| &build["platform"]).collect();
    assert_eq!(
        platforms,
        [
            &json!({"architecture": "wasm", "os": "wasip1"}),
            &json!({"architecture": "wasm", "os": "wasip2"})
        ]
    );
    let (media_type, manifest) = server.manifest("app", listed[1]["digest"].as_str().unwrap());
    let manifest = json(&manifest);
    assert_eq!(media_type, MANIFEST);
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"], json!([descriptor("application/wasm", &component)]));
    let config = json(&server.blob(manifest["config"]["digest"].as_str().unwrap()));
    assert_eq!(
        config,
        json!({
            "created": "1970-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip2",
            "layerDigests": [self::digest(&component)],
            "component": {"exports": ["wasi:cli/run@0.2.3"], "imports": ["wasi:cli/stdout@0.2.3"]}
        })
    );

    // Each node takes what does most.
    let elsewhere = self::local();
    let pulled = elsewhere.store.pull(&target, &nobody).await.unwrap().image;
    assert_eq!(pulled.wasm().unwrap(), component);

    let twice = local
        .store
        .push_artifact(&[first.clone(), first], &target, &nobody)
        .await;
    assert!(
        twice
            .unwrap_err()
            .to_string()
            .contains("two of the builds are for wasip1")
    );
}

#[tokio::test]
async fn an_image_with_files_is_no_artifact() {
    let (server, local) = (Server::start().await, local());
    let config = linux(json!({"Entrypoint": ["/app.wasm"]}));
    let files = layer(&[("app.wasm", WASM), ("page", b"a page")]);
    put(&server, "site", "v1", (CONFIG, &config), &[(TAR_GZIP, &files)]);
    let name = server.name("site:v1");
    local.store.pull(&name, &Keyring::default()).await.unwrap();
    let build = Build {
        reference: &name,
        component: None,
    };
    let refused = local.store.push_artifact(&[build], &name, &Keyring::default()).await;
    assert!(refused.unwrap_err().to_string().contains("push it without --artifact"));
}

#[tokio::test]
async fn a_login_opens_what_is_closed() {
    let (server, local) = (Server::start().await, local());
    put_artifact(&server, "app", "v1");
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    server.lock(&format!("Basic {}", encode("me:secret")));
    let name = server.name("app:v1");
    let refused = local.refusal(&name).await;
    assert!(
        refused.contains("imagePullSecrets") && refused.contains("docker login"),
        "{refused}"
    );

    let keyring = |passwords: &[&str]| {
        let mut keyring = Keyring::default();
        for password in passwords {
            let auths = json!({"auths": {server.address.to_string(): {"auth": encode(&format!("me:{password}"))}}});
            keyring
                .add_docker_config(auths.to_string().as_bytes(), "secret \"pull\"")
                .unwrap();
        }
        keyring
    };
    let wrong = local
        .store
        .pull(&name, &keyring(&["wrong"]))
        .await
        .unwrap_err()
        .to_string();
    assert!(wrong.contains("refuses the login of secret \"pull\""), "{wrong}");
    // The second is tried where the first is refused.
    local.store.pull(&name, &keyring(&["wrong", "secret"])).await.unwrap();
    local
        .store
        .push(&name, &server.name("app:v2"), &keyring(&["secret"]))
        .await
        .unwrap();
    assert!(
        local
            .store
            .push(&name, &server.name("app:v3"), &keyring(&["wrong"]))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn tls_is_spoken_where_the_registry_does() {
    let ((server, pem), local) = (Server::start_tls().await, local());
    put_artifact(&server, "app", "v1");
    let name = server.name("app:v1");
    let refused = local.refusal(&name).await;
    assert!(refused.contains("certificate"), "{refused}");
    let store = local.store.with_registry_authority(Some(pem));
    assert_eq!(
        store
            .pull(&name, &Keyring::default())
            .await
            .unwrap()
            .image
            .wasm()
            .unwrap(),
        WASM
    );
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let (server, local) = (Server::start().await, local());
    put_artifact(&server, "app", "v1");
    put_artifact(&server, "app", "v2");
    let chart = ("application/vnd.cncf.helm.config.v1+json", &json!({}));
    put(
        &server,
        "chart",
        "v1",
        chart,
        &[("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"x")],
    );
    let zstd = [("application/vnd.oci.image.layer.v1.tar+zstd", &b"x"[..])];
    put(
        &server,
        "zstd",
        "v1",
        (CONFIG, &linux(json!({"Cmd": ["/a.wasm"]}))),
        &zstd,
    );
    let elf = layer(&[("a.wasm", b"\x7fELF")]);
    put(
        &server,
        "elf",
        "v1",
        (CONFIG, &linux(json!({"Cmd": ["/a.wasm"]}))),
        &[(TAR_GZIP, &elf)],
    );
    put(
        &server,
        "gone",
        "v1",
        (CONFIG, &linux(json!({"Cmd": ["/b.wasm"]}))),
        &[(TAR_GZIP, &elf)],
    );
    let evil = {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..7].copy_from_slice(b"../evil");
        header.set_size(0);
        header.set_cksum();
        builder.append(&header, &b""[..]).unwrap();
        builder.into_inner().unwrap()
    };
    let tar = "application/vnd.oci.image.layer.v1.tar";
    put(
        &server,
        "evil",
        "v1",
        (CONFIG, &linux(json!({"Cmd": ["/a.wasm"]}))),
        &[(tar, &evil)],
    );
    server.put_manifest("text", "v1", MANIFEST, b"hello");
    for (image, words) in [
        ("app:v9", "has no app:v9; it has the tags v1, v2"),
        ("nothing:v1", "it has no repository nothing"),
        (
            "chart:v1",
            "its configuration has the media type \"application/vnd.cncf.helm.config.v1+json\"",
        ),
        ("zstd:v1", "push it again with layers that are compressed by gzip"),
        ("elf:v1", "a Linux program"),
        ("gone:v1", "its program \"/b.wasm\" is not among its files"),
        ("evil:v1", "leads out of the image"),
        ("text:v1", "its manifest is not understood"),
    ] {
        let refused = local.refusal(&server.name(image)).await;
        assert!(refused.contains(words), "{image}: {refused}");
    }
    assert!(!local.dir.path().join("evil").exists());
    let unfinished = std::fs::read_dir(local.dir.path()).unwrap().flatten();
    assert!(
        unfinished
            .into_iter()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with(".new-"))
    );
    assert_eq!(
        local
            .store
            .list()
            .unwrap()
            .iter()
            .filter(|image| !image.builtin)
            .count(),
        0
    );

    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = local.refusal(&format!("{free}/app")).await;
    assert!(
        refused.contains("cannot reach registry") && refused.contains("refused"),
        "{refused}"
    );
    let refused = local.refusal("app").await;
    assert!(refused.contains("names no registry"), "{refused}");
}

#[tokio::test]
async fn other_bytes_than_promised_are_refused() {
    let (server, local) = (Server::start().await, local());
    put_artifact(&server, "app", "v1");
    server.replace_blob(&digest(WASM), b"\0asm\x01\0\0\x01");
    let refused = local.refusal(&server.name("app:v1")).await;
    assert!(refused.contains("sent other bytes than sha256:"), "{refused}");
    server.replace_blob(&digest(WASM), &vec![0; 1 << 20]);
    let refused = local.refusal(&server.name("app:v1")).await;
    assert!(refused.contains("sent more than 8 bytes"), "{refused}");
    // Announced sizes are limits, so what announces too much is not even asked for.
    let config = descriptor(CONFIG, b"{}");
    let huge = json!({"mediaType": "application/wasm", "digest": digest(WASM), "size": 1_u64 << 40});
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [huge]}).to_string();
    server.put_manifest("huge", "v1", MANIFEST, manifest.as_bytes());
    server.put_blob(b"{}");
    server.asked();
    let refused = local.refusal(&server.name("huge:v1")).await;
    assert!(refused.contains("more than the"), "{refused}");
    assert!(server.asked().iter().all(|line| !line.contains("/blobs/")));
    // A manifest under the digest of another.
    let wrong = server.put_manifest("app", "v2", MANIFEST, b"{}").replace("sha256:", "");
    let other = format!("sha256:{}", wrong.chars().rev().collect::<String>());
    server.put_manifest("app", &other, MANIFEST, manifest.as_bytes());
    let refused = local.refusal(&server.name(&format!("app@{other}"))).await;
    assert!(refused.contains("other bytes"), "{refused}");
}

#[tokio::test]
async fn who_wants_the_same_at_once_waits_for_one_pull() {
    let (server, local) = (Server::start().await, local());
    put_artifact(&server, "app", "v1");
    let name = server.name("app:v1");
    let keyring = Keyring::default();
    let pulls = (0..8).map(|_| local.store.pull(&name, &keyring));
    let pulled = futures::future::join_all(pulls).await;
    assert_eq!(
        pulled
            .iter()
            .filter(|pulled| pulled.as_ref().unwrap().bytes > 0)
            .count(),
        1
    );
    let blob = format!("GET /v2/app/blobs/{}", digest(WASM));
    assert_eq!(server.asked().iter().filter(|line| **line == blob).count(), 1);
}
