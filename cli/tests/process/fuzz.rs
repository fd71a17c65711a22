//! `coracle fuzz`: what it is told to run, what it tells, and that a seed repeats itself.

use std::path::Path;

use serde_json::Value;

use crate::coracle;

/// Says sixteen letters that chance chooses, then traps.
const CHANCE: &str = r#"(module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start") (local $i i32)
        (drop (call $random (i32.const 100) (i32.const 16)))
        (loop $next
            (i32.store8 offset=100 (local.get $i)
                (i32.add (i32.const 97) (i32.and (i32.load8_u offset=100 (local.get $i)) (i32.const 15))))
            (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 16))))
        (i32.store8 (i32.const 116) (i32.const 10))
        (i32.store (i32.const 0) (i32.const 100))
        (i32.store (i32.const 4) (i32.const 17))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        unreachable))"#;

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn fuzz(args: &[&str]) -> Value {
    let output = coracle(&[&["fuzz", "--time", "1s", "--slowest", "1h", "--output", "json"], args].concat())
        .output()
        .await
        .unwrap();
    let (said, complained) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(output.status.success(), "{said}{complained}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[tokio::test]
async fn a_seed_repeats_itself_and_what_is_contained_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let component = write(directory.path(), "chance.wasm", CHANCE);
    let args = [&component, "--rounds", "2", "--seed", "41"];
    let (first, second) = (fuzz(&args).await, fuzz(&args).await);
    let told = |report: &Value| -> Vec<Value> {
        let rounds = report["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 2);
        let told =
            |round: &Value| serde_json::json!([round["seed"], round["reason"], round["exitCode"], round["logDigest"]]);
        rounds.iter().map(told).collect()
    };
    assert_eq!(told(&first), told(&second));
    assert_ne!(
        told(&first)[0][3],
        told(&first)[1][3],
        "chance is the same with every seed"
    );
    let round = &first["rounds"][0];
    assert_eq!(
        (&round["reason"], &round["exitCode"]),
        (&Value::from("Error"), &Value::from(134))
    );
    assert!(round["neighbour"]["answered"].as_u64().unwrap() > 0, "{round}");
    assert!(round["api"]["answered"].as_u64().unwrap() > 0, "{round}");
    assert_eq!(first["findings"], serde_json::json!([]));
}

#[tokio::test]
async fn what_cannot_run_is_said_and_is_no_finding() {
    let directory = tempfile::tempdir().unwrap();
    let component = write(directory.path(), "empty.wasm", "(module)");
    let output = coracle(&["fuzz", &component, "--time", "1s"]).output().await.unwrap();
    let complained = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        complained.contains("cannot run") && complained.contains("_start"),
        "{complained}"
    );
}

#[tokio::test]
async fn of_itself_it_runs_every_kind_of_guest() {
    let output = coracle(&[
        "fuzz",
        "--rounds",
        "8",
        "--time",
        "120s",
        "--seed",
        "16",
        "--fuel",
        "200M",
        "--slowest",
        "1h",
    ])
    .output()
    .await
    .unwrap();
    let (said, complained) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(output.status.success(), "{said}{complained}");
    for kind in ["io", "files", "sockets", "http", "processes", "all"] {
        assert!(said.contains(&format!(" {kind} ")), "{kind}: {said}");
    }
    for (kind, ended) in [("spin", "FuelExhausted (137)"), ("hog", "OOMKilled (137)")] {
        assert!(
            said.lines().any(|line| line.contains(kind) && line.contains(ended)),
            "{kind}: {said}"
        );
    }
    assert!(said.contains("8 rounds, all contained"), "{said}");
}
