//! examples/mesh: sidecars in pods that speak TLS for programs that know nothing of it.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::world::{World, pod_of};

/// Compiles the sidecar as `coracle build` does.
fn sidecar() -> Vec<u8> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/mesh/sidecar");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mesh");
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            "wasm32-wasip2",
            "--target-dir",
        ])
        .arg(&out)
        .current_dir(project)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::read(out.join("wasm32-wasip2/release/mesh-sidecar.wasm")).unwrap()
}

/// What `examples/mesh/certificates` makes.
async fn certificates(world: &World, names: &[&str]) {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = parameters.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(parameters, key);
    for name in names {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![(*name).to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &issuer).unwrap();
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": format!("{name}-certificates")},
            "stringData": {"ca.crt": authority, "tls.crt": certificate.pem(), "tls.key": key.serialize_pem()},
        });
        world.apply(&secret.to_string()).await;
    }
}

fn answers(said: &str) -> Vec<&str> {
    said.lines()
        .filter(|line| line.contains("version says hello"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_prove_who_they_are_share_requests_and_try_again() {
    let world = World::start().await;
    world.load("mesh-sidecar", &tokio::task::spawn_blocking(sidecar).await.unwrap());
    certificates(&world, &["quotes-v1", "quotes-v2", "reader"]).await;
    let example = include_str!("../../examples/mesh/mesh.yaml");
    assert!(example.contains("--every, '0.5'"));
    world.apply(&example.replace("--every, '0.5'", "--every, '0.05'")).await;
    let available = |deployment: &Deployment| {
        let status = deployment.status.as_ref();
        status.and_then(|status| status.available_replicas) == Some(1)
    };
    for name in ["quotes-v1", "quotes-v2", "reader"] {
        world.until(&world.all::<Deployment>(), name, available).await;
    }
    let reader = pod_of(&world, "app=reader").await.name_any();

    // Once both answer, each ten requests in a row are shared as the route says.
    let enough = |said: &str| {
        answers(said)
            .windows(20)
            .any(|row| row.iter().filter(|line| line.contains("second")).count() == 2)
    };
    world
        .says_until(&reader, "reader", "answers of both versions", enough)
        .await;

    // Who has no certificate is told nothing, and neither is who comes without TLS.
    let stranger = world.output("stranger", "caller", &["http://quotes-v1:8080/"]).await;
    assert!(!stranger.contains("says hello"), "{stranger}");

    // A version that is away is followed by another attempt, and the client notices nothing.
    let scale = json!({"spec": {"replicas": 0}});
    let deployments = world.all::<Deployment>();
    deployments
        .patch("quotes-v2", &PatchParams::default(), &Patch::Merge(scale))
        .await
        .unwrap();
    world.says(&reader, "mesh", "quotes-v2 is not reached").await;
    let before = answers(&world.log(&reader, "reader").await).len();
    let more = |said: &str| answers(said).len() >= before + 20;
    let said = world.says_until(&reader, "reader", "further answers", more).await;
    let last = answers(&said).split_off(before);
    assert!(last.iter().all(|line| line.contains("first")), "{last:?}");
}
