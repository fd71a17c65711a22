//! What can be found out about a guest: where it spends its time.

use crate::world::World;

#[tokio::test]
async fn a_profile_names_the_guests_functions_and_is_the_users_alone() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let pod = world.pod("profiled");
    let path = dir.path().join("not/there/yet/0.profile.json");
    let module = wat::parse_str(
        r#"(module (memory (export "memory") 1)
            (func $hot (local $n i32)
                (loop $on (br_if $on (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 300000000)))))
            (func $begin (export "_start") (call $hot)))"#,
    );
    let module = world.runtime.load("hot", module.unwrap().into()).await.unwrap();
    let job = world.start(&pod, module, &[], |spec| spec.profile = Some(path.clone()));
    assert_eq!(job.exit().await.code, 0);
    let profile: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let thread = &profile["threads"][0];
    let samples = thread["samples"]["length"].as_u64().unwrap();
    assert!(samples > 0, "{samples}");
    let text = profile.to_string();
    assert!(text.contains("hot") && text.contains("begin"), "{text}");
    assert_eq!(profile["meta"]["interval"], 0.5);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A guest that is ended from outside is looked at as well: those are the ones that do not end by themselves.
#[tokio::test]
async fn a_profile_is_written_of_a_guest_that_is_killed() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let pod = world.pod("endless");
    let path = dir.path().join("0.profile.json");
    let endless = world
        .run_with(&pod, "probe", &["spin"], |spec| spec.profile = Some(path.clone()))
        .await;
    crate::world::soon("some use of CPU", async {
        while endless.container.usage().cpu_nanos < 20_000_000 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    endless.container.kill();
    endless.exit().await;
    let profile: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(profile["threads"][0]["samples"]["length"].as_u64().unwrap() > 5);
}
