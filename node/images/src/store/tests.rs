use super::*;

const WASM: &[u8] = b"\0asm\x01\0\0\0";

fn store() -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path().join("images")).unwrap();
    (dir, store)
}

#[test]
fn every_builtin_has_three_tags_over_one_module() {
    let (_dir, store) = store();
    for name in ["hello", "web", "proxy-sidecar", "caller", "worker"] {
        let latest = store.resolve(name).unwrap();
        let v1 = store.resolve(&format!("{name}:v1")).unwrap();
        let v2 = store.resolve(&format!("{name}:v2")).unwrap();
        assert_eq!(latest.reference, format!("{name}:latest"));
        assert_eq!((&v1.digest, &latest.digest), (&v2.digest, &v1.digest));
        assert_ne!(v1.id, v2.id);
        assert!(v2.config.env.contains(&"VERSION=v2".to_owned()));
        assert!(v2.wasm().unwrap().starts_with(b"\0asm"));
        let pinned = store.resolve(&format!("{name}@{}", v2.id)).unwrap();
        assert_eq!(pinned.config, v2.config);
    }
}

#[test]
fn a_loaded_image_survives_and_is_seen_by_others() {
    let (dir, store) = store();
    let other = ImageStore::open(dir.path().join("images")).unwrap();
    assert!(matches!(other.resolve("app:v1"), Err(ImageError::NotFound { .. })));
    let config = ImageConfig {
        env: vec!["A=1".into()],
        ..ImageConfig::default()
    };
    let loaded = store.load("app:v1", WASM, &config).unwrap();
    let seen = other.resolve("app:v1").unwrap();
    assert_eq!((seen.id, seen.config.env.clone()), (loaded.id.clone(), config.env));
    assert_eq!(seen.size, WASM.len() as u64);
    assert_eq!(
        other.resolve(&format!("app@{}", loaded.id)).unwrap().wasm().unwrap(),
        WASM
    );
    assert!(matches!(
        other.resolve(&format!("app2@{}", loaded.id)),
        Err(ImageError::NotFound { .. })
    ));
}

#[test]
fn removing_a_name_keeps_what_others_use() {
    let (_dir, store) = store();
    store.load("a", WASM, &ImageConfig::default()).unwrap();
    store.load("b", WASM, &ImageConfig::default()).unwrap();
    store.remove("a").unwrap();
    assert!(store.resolve("a").is_err());
    assert_eq!(store.resolve("b").unwrap().wasm().unwrap(), WASM);
    let own: Vec<_> = store
        .list()
        .unwrap()
        .into_iter()
        .filter(|image| !image.builtin)
        .collect();
    assert_eq!(own.len(), 1);
    assert_eq!(own[0].reference, "b:latest");
    let blobs = store.resolve("b").unwrap();
    store.remove("b").unwrap();
    assert!(matches!(blobs.wasm(), Err(ImageError::Io { .. })));
    assert!(matches!(store.remove("b"), Err(ImageError::NotFound { .. })));
}

#[test]
fn errors_say_what_to_do() {
    let (_dir, store) = store();
    let text = |reference: &str| store.resolve(reference).unwrap_err().to_string();
    assert!(
        text("nope").contains("coracle image load nope:latest FILE.wasm"),
        "{}",
        text("nope")
    );
    assert!(text("nope").contains("hello"));
    assert!(text("docker.io/library/nginx").contains("coracle image pull docker.io/library/nginx:latest"));
    assert!(text("file:///etc/passwd").contains("does not run modules from files"));
    assert!(text("No Such").contains("couldn't parse image name"));
}

#[test]
fn only_wasm_is_loaded_and_builtins_stay() {
    let (_dir, store) = store();
    let refused = |bytes: &[u8]| {
        store
            .load("app", bytes, &ImageConfig::default())
            .unwrap_err()
            .to_string()
    };
    assert!(refused(b"\x7fELF...").contains("a Linux program"));
    assert!(refused(b"").contains("empty"));
    assert!(matches!(
        store.load("hello", WASM, &ImageConfig::default()),
        Err(ImageError::Builtin { .. })
    ));
    assert!(matches!(store.remove("hello:v1"), Err(ImageError::Builtin { .. })));
}

#[test]
fn files_are_read_where_they_are_allowed() {
    let (dir, store) = store();
    let store = store.with_files_allowed(true);
    let path = dir.path().join("x.wasm");
    fs::write(&path, WASM).unwrap();
    let reference = format!("file://{}", path.display());
    let image = store.resolve(&reference).unwrap();
    assert_eq!(image.wasm().unwrap(), WASM);
    fs::write(&path, b"plain text").unwrap();
    assert!(matches!(store.resolve(&reference), Err(ImageError::NotWasm { .. })));
}
