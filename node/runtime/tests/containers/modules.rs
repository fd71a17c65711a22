//! Loading: what is refused, and what is compiled once.

use std::sync::Arc;

use bytes::Bytes;
use coracle_runtime::{LoadError, ModuleKind, Runtime, RuntimeConfig, interfaces};

use crate::world::World;

#[tokio::test]
async fn what_cannot_run_is_refused_with_the_reason() {
    let world = World::new();
    let refuse = async |wasm: Vec<u8>| {
        let digest = format!("{:?}", wasm.len());
        world.runtime.load(&digest, wasm.into()).await.unwrap_err()
    };
    let error = refuse(b"#!/bin/sh\necho hello\n".to_vec()).await;
    assert_eq!(error.to_string(), "this is not a WebAssembly module: it is a script");

    let component = r#"(component (import "wasi:keyvalue/store@0.2.0" (instance)))"#;
    let error = refuse(wat::parse_str(component).unwrap()).await;
    let text = "this component imports wasi:keyvalue/store@0.2.0, which Coracle does not provide; it provides the worlds \
        wasi:cli/command and wasi:http/proxy in version 0.2, and coracle:process: build the program for one of these";
    assert_eq!(error.to_string(), text);

    // A function that no version of the interface has: known only when it is linked.
    let component = r#"(component
        (import "wasi:cli/environment@0.2.0" (instance (export "get-secrets" (func))))
        (instance $run) (export "wasi:cli/run@0.2.0" (instance $run)))"#;
    let error = refuse(wat::parse_str(component).unwrap()).await;
    assert!(
        matches!(error, LoadError::Unsupported(_)) && error.to_string().contains("get-secrets"),
        "{error}"
    );

    // Valid at first sight, but not for the compiler.
    let broken = r#"(module (func (export "_start")) (func (result i32)))"#;
    let mut bytes = wat::parse_str(broken.replace("(result i32)", "(result i32) i32.const 1")).unwrap();
    let constant = bytes.windows(2).rposition(|pair| pair == [0x41, 0x01]).unwrap();
    bytes[constant] = 0x42; // an i64 where an i32 is promised
    let error = refuse(bytes).await;
    assert!(
        matches!(error, LoadError::Invalid(_) | LoadError::Compile(_)),
        "{error}"
    );
}

#[tokio::test]
async fn code_is_compiled_once_and_kept_on_disk() {
    let cache = tempfile::tempdir().unwrap();
    let config = RuntimeConfig {
        worker_threads: 1,
        ..RuntimeConfig::new(cache.path().join("code"))
    };
    let files = || std::fs::read_dir(cache.path().join("code")).unwrap().count();
    let wasm = Bytes::from_static(coracle_fixtures::component("web").unwrap());

    let runtime = Runtime::new(config.clone()).unwrap();
    assert_eq!(runtime.check(&wasm).unwrap().kind, ModuleKind::Http);
    let both = tokio::join!(runtime.load("web", wasm.clone()), runtime.load("web", wasm.clone()));
    let (first, second) = (both.0.unwrap(), both.1.unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(files(), 1);
    let modified = |file: std::fs::DirEntry| file.metadata().unwrap().modified().unwrap();
    let stamp = || {
        modified(
            std::fs::read_dir(cache.path().join("code"))
                .unwrap()
                .next()
                .unwrap()
                .unwrap(),
        )
    };
    let before = stamp();
    drop((first, second, runtime));

    let again = Runtime::new(config).unwrap();
    again.load("web", wasm.clone()).await.unwrap();
    assert_eq!((files(), stamp()), (1, before));

    // Damaged code is noticed and made again.
    let path = std::fs::read_dir(cache.path().join("code"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::write(&path, b"not code").unwrap();
    again.load("web-again", wasm).await.unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() > 1000);
}

/// A start costs a compilation more then, and the pod runs all the same.
#[tokio::test]
async fn a_pod_runs_where_code_cannot_be_kept_and_the_compiler_is_gone() {
    let cache = tempfile::tempdir().unwrap();
    let directory = cache.path().join("code");
    let config = RuntimeConfig {
        worker_threads: 1,
        compiler: Some("/nowhere/coracle".into()),
        ..RuntimeConfig::new(directory.clone())
    };
    let world = World::on(Runtime::new(config.clone()).unwrap());
    std::fs::remove_dir(&directory).unwrap();
    std::fs::write(&directory, "").unwrap();
    let text = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
    let module = world
        .runtime
        .load("small", wat::parse_str(text).unwrap().into())
        .await
        .unwrap();
    let pod = world.pod("small");
    assert_eq!(world.start(&pod, module, &[], |_| {}).exit().await.code, 0);
    // Where there is no directory for it at all, nobody starts.
    let error = Runtime::new(config).unwrap_err().to_string();
    assert!(error.contains(directory.to_str().unwrap()), "{error}");
}

#[test]
fn programs_of_others_are_named_by_their_first_bytes() {
    let elf = |machine: u8| {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(64, 0);
        bytes[18] = machine;
        bytes
    };
    for (bytes, named) in [
        (elf(0x3e), "a linux/amd64 program"),
        (elf(0xb7), "a linux/arm64 program"),
        (elf(0), "a Linux program"),
        (b"MZ\x90".to_vec(), "a Windows program"),
        (b"\xcf\xfa\xed\xfe".to_vec(), "a macOS program"),
        (b"\x1f\x8b\x08".to_vec(), "a gzip archive"),
        (b"(module)".to_vec(), "the text format"),
        (b"nothing".to_vec(), "does not begin with the bytes of one"),
    ] {
        let error = interfaces(&bytes).err().unwrap().to_string();
        assert!(error.contains(named), "{error}");
    }
    // Code that somebody compiled beforehand would run outside of every limit.
    let engine = wasmtime::Engine::default();
    let compiled = engine.precompile_module(&wat::parse_str("(module)").unwrap()).unwrap();
    let error = interfaces(&compiled).err().unwrap().to_string();
    assert!(error.contains("never accepted from an image"), "{error}");
    let component = interfaces(coracle_fixtures::component("web").unwrap())
        .unwrap()
        .unwrap();
    assert!(
        component
            .exports
            .iter()
            .any(|name| name.starts_with("wasi:http/incoming-handler"))
    );
    assert!(
        interfaces(coracle_fixtures::preview1("probe").unwrap())
            .unwrap()
            .is_none()
    );
}
