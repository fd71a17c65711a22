//! Images that attack whoever pulls them.

use std::io::Write;

use coracle_isolation::world::{end, ended, waits};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::canary::{Canary, WORDS};
use server::Server;

#[path = "../../../node/images/tests/registry/server.rs"]
#[allow(dead_code)]
mod server;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn put(server: &Server, path: &str, layer: &[u8]) {
    let config = json!({"architecture": "wasm", "os": "wasip2", "config": {"Entrypoint": ["/app.wasm"]}}).to_string();
    let part = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": server.put_blob(bytes), "size": bytes.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": part(CONFIG, config.as_bytes()), "layers": [part(LAYER, layer)]});
    server.put_manifest(path, "v1", MANIFEST, manifest.to_string().as_bytes());
}

fn gzip(bytes: impl FnOnce(&mut GzEncoder<Vec<u8>>)) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    bytes(&mut out);
    out.finish().unwrap()
}

/// An archive with one file of so many MiB of zeros: one piece that is packed once and said again and again.
fn bomb(mebibytes: u64) -> Vec<u8> {
    const PIECE_MIB: u64 = 64;
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(mebibytes << 20);
    header.set_mode(0o644);
    header.set_cksum();
    let mut packed = gzip(|out| out.write_all(header.as_bytes()).unwrap());
    let zeros = vec![0; (PIECE_MIB << 20) as usize];
    let piece = gzip(|out| out.write_all(&zeros).unwrap());
    (0..mebibytes.div_ceil(PIECE_MIB)).for_each(|_| packed.extend_from_slice(&piece));
    packed
}

/// An archive with links out of the image, and files through them.
fn links(target: &str) -> Vec<u8> {
    gzip(|out| {
        let mut builder = tar::Builder::new(out);
        let add = |builder: &mut tar::Builder<_>, name: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            // Past the library's own check of names.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_mode(0o4777);
            header.set_cksum();
            builder.append(&header, content).unwrap();
        };
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "out", target).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Link);
        header.set_size(0);
        builder
            .append_link(&mut header, "hard", format!("{target}/file"))
            .unwrap();
        add(&mut builder, "out/new", b"touched");
        add(&mut builder, "out/file", b"touched");
        add(&mut builder, "../../../../touched", b"touched");
        add(
            &mut builder,
            "app.wasm",
            coracle_fixtures::component("hostile").unwrap(),
        );
        builder.finish().unwrap();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_harms_nobody_who_pulls_it() {
    let _alone = crate::alone().await;
    let (world, server, canary) = (crate::world().await, Server::start().await, Canary::new());
    put(&server, "bomb", &bomb(3 << 10));
    put(&server, "links", &links(canary.directory()));
    put(&server, "half", &bomb(64)[..600]);
    put(&server, "noise", b"\x1f\x8bnothing that was ever compressed");
    for name in ["bomb", "half", "noise"] {
        world.run(name, &server.name(&format!("{name}:v1")), &[], "").await;
        let pod = world
            .pod(name, |pod| {
                waits(pod).is_some_and(|(reason, _)| reason.contains("Image"))
            })
            .await;
        let (_, message) = waits(&pod).unwrap();
        let why = if name == "bomb" { "unpack to more than" } else { "layer" };
        assert!(message.contains(why), "{name}: {message}");
    }
    // Nothing of the bomb is left in the store.
    let images = world.cluster.data().join("images");
    assert!(
        bytes_below(&images) < 512 << 20,
        "{} bytes are left",
        bytes_below(&images)
    );

    // Links stay in the image: it runs, or is refused, and touches nothing either way.
    world
        .run(
            "links",
            &server.name("links:v1"),
            &["paths", canary.file().to_str().unwrap()],
            "",
        )
        .await;
    let pod = world
        .pod("links", |pod| {
            ended(pod) || waits(pod).is_some_and(|(reason, _)| reason.contains("Image"))
        })
        .await;
    if end(&pod).is_some() {
        let said = world.log("links", "main").await;
        assert!(!said.contains(WORDS), "{said}");
    }
    canary.is_untouched();
}

fn bytes_below(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_below(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}
