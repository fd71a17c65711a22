//! Guests that want too much.

use std::time::{Duration, Instant};

use bytes::Bytes;
use coracle_runtime::{ExitReason, StartError};

use crate::world::{World, runtime, runtime_with, soon};

#[tokio::test]
async fn a_guest_over_its_memory_limit_is_oom_killed() {
    let world = World::new();
    let pod = world.pod("hog");
    let hog = world
        .run_with(&pod, "probe", &["hog"], |spec| spec.memory_limit_bytes = Some(64 << 20))
        .await;
    let exit = hog.exit().await;
    assert_eq!((exit.code, exit.reason), (137, ExitReason::OomKilled));
    assert!(exit.message.unwrap().contains("limit of 64 MiB"));
    // It had nearly all of it.
    assert!(
        hog.out.text().contains("50 MiB\n") && !hog.out.text().contains("64 MiB\n"),
        "{}",
        hog.out.text()
    );
    assert_eq!(hog.container.usage().memory_bytes, 0);
}

#[tokio::test]
async fn the_machine_is_not_left_without_memory() {
    // No machine has so much left: somebody has to go at once, and it is not the one with a limit or the small one.
    let world = World::on(runtime_with(2, Some(u64::MAX)));
    let pods = ["bounded", "small", "hog"].map(|name| world.pod(name));
    let [bounded, small, hog] = &pods;
    let module = world.module("probe").await;
    let bounded = world.start(bounded, module.clone(), &["sleep"], |spec| {
        spec.memory_limit_bytes = Some(1 << 30)
    });
    let small = world.start(small, module.clone(), &["sleep"], |_| {});
    let hog = world.start(hog, module, &["hog"], |_| {});
    let exit = hog.exit().await;
    assert_eq!((exit.code, exit.reason), (137, ExitReason::OomKilled));
    let message = exit.message.unwrap();
    assert!(message.contains("the machine has no memory left"), "{message}");
    assert!(bounded.container.exit().is_none() && small.container.exit().is_none());
}

#[tokio::test]
async fn a_limit_below_what_the_program_needs_is_the_same_end() {
    let world = World::new();
    let pod = world.pod("tight");
    let tight = world
        .run_with(&pod, "probe", &["env"], |spec| spec.memory_limit_bytes = Some(1000))
        .await;
    assert_eq!(tight.exit().await.reason, ExitReason::OomKilled);
}

#[tokio::test]
async fn a_spinner_is_killed_at_once_and_does_not_starve_others() {
    let world = World::on(runtime(1));
    let (busy, quiet) = (world.pod("busy"), world.pod("quiet"));
    let spinners = [
        world.run(&busy, "probe", &["spin"]).await,
        world.run(&busy, "probe", &["spin"]).await,
    ];
    let neighbour = world.run(&quiet, "probe", &["lines", "3"]).await;
    assert_eq!(neighbour.printed().await, "line 0\nline 1\nline 2\n");
    for spinner in spinners {
        assert_eq!(spinner.container.exit(), None);
        let start = Instant::now();
        spinner.container.kill();
        let exit = spinner.exit().await;
        assert_eq!((exit.code, exit.reason), (137, ExitReason::Killed));
        // Milliseconds on a quiet machine; this bound only tells it from "not at all".
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(spinner.container.usage().cpu_nanos > 0);
    }
}

#[tokio::test]
async fn a_cpu_limit_is_held() {
    let world = World::on(runtime(1));
    let pod = world.pod("limited");
    let spinner = world
        .run_with(&pod, "probe", &["spin"], |spec| spec.cpu_limit_milli = Some(200))
        .await;
    let start = Instant::now();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let used = Duration::from_nanos(spinner.container.usage().cpu_nanos);
    // One period's quota and one tick may be ahead; a busy machine can only lower it.
    let most = start.elapsed().mul_f64(0.2) + Duration::from_millis(40);
    assert!(used > Duration::ZERO && used <= most, "{used:?} of {most:?}");
    let waits = spinner.container.throttling();
    assert!(waits.throttled_nanos > 0 && waits.throttled_periods > 0, "{waits:?}");
    assert!(waits.throttled_periods <= waits.periods, "{waits:?}");
}

#[tokio::test]
async fn who_requests_more_gets_more_where_there_is_too_little() {
    let world = World::on(runtime(1));
    let pod = world.pod("shared");
    let spin = async |milli| {
        let request = |spec: &mut coracle_runtime::ContainerSpec| spec.cpu_request_milli = Some(milli);
        world.run_with(&pod, "probe", &["spin"], request).await
    };
    let (heavy, light) = (spin(900).await, spin(300).await);
    let used = || [&heavy, &light].map(|guest| guest.container.usage().cpu_nanos);
    let before = used();
    let (heavy_used, light_used) = soon("a second of CPU", async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = used();
            let (heavy, light) = (now[0] - before[0], now[1] - before[1]);
            if heavy + light > 1_000_000_000 {
                return (heavy as f64, light as f64);
            }
        }
    })
    .await;
    let ratio = heavy_used / light_used;
    assert!((2.7..3.3).contains(&ratio), "{heavy_used} to {light_used}");
}

#[tokio::test]
async fn a_cpu_limit_may_count_instructions() {
    let world = World::on(runtime(1));
    let pod = world.pod("counted");
    let wasm = Bytes::from_static(coracle_fixtures::component("probe").unwrap());
    let module = world.runtime.load_metered("probe", wasm).await.unwrap();
    let spinner = world.start(&pod, module, &["spin"], |spec| {
        // A twentieth of what counts as a core: even slow code does that many instructions.
        (spec.cpu_by_fuel, spec.cpu_limit_milli) = (true, Some(50));
    });
    soon("the limit", async {
        while spinner.container.throttling().throttled_periods < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let unmetered = world.module("probe").await;
    let error = world.refused(&pod, unmetered, |spec| spec.cpu_by_fuel = true);
    assert!(matches!(error, StartError::NotMetered));
}

#[tokio::test]
async fn limits_change_while_a_guest_runs() {
    let world = World::new();
    let pod = world.pod("resized");
    let hog = world
        .run_with(&pod, "hello", &[], |spec| spec.memory_limit_bytes = Some(64 << 20))
        .await;
    hog.out.wait_for("listening").await;
    assert_eq!(
        hog.container.throttling().periods,
        0,
        "nothing is counted without a limit"
    );
    let held = hog.container.usage().memory_bytes;
    let refused = hog.container.resize(Some(held - 1), Some(100)).unwrap_err();
    assert_eq!((refused.limit_bytes, refused.used_bytes), (held - 1, held));
    hog.container.resize(Some(held), None).unwrap();
    hog.container.resize(None, None).unwrap();
}

#[tokio::test]
async fn fuel_ends_a_container_at_the_same_instruction() {
    let world = World::new();
    let pod = world.pod("metered");
    let wasm = Bytes::from_static(coracle_fixtures::component("probe").unwrap());
    let module = world.runtime.load_metered("probe", wasm).await.unwrap();
    let mut outputs = Vec::new();
    for _ in 0..2 {
        let lines = world.start(&pod, module.clone(), &["lines", "1000000"], |spec| {
            spec.fuel = Some(5_000_000)
        });
        let exit = lines.exit().await;
        assert_eq!(exit.reason, ExitReason::FuelExhausted, "{exit:?}");
        outputs.push(lines.out.text());
    }
    assert!(outputs[0].lines().count() > 10);
    assert_eq!(outputs[0], outputs[1]);

    let enough = world.start(&pod, module, &["lines", "2"], |spec| spec.fuel = Some(500_000_000));
    assert_eq!(enough.printed().await, "line 0\nline 1\n");
}

#[tokio::test]
async fn a_fuel_limit_needs_a_metered_module() {
    let world = World::new();
    let pod = world.pod("unmetered");
    let module = world.module("probe").await;
    let error = world.refused(&pod, module, |spec| spec.fuel = Some(1));
    assert!(matches!(error, StartError::NotMetered));
}

#[tokio::test]
async fn endless_recursion_is_a_fault_of_the_guest_alone() {
    let world = World::new();
    let pod = world.pod("deep");
    let deep = world.run(&pod, "probe", &["overflow"]).await;
    let exit = deep.exit().await;
    assert_eq!((exit.code, exit.reason), (139, ExitReason::Error), "{exit:?}");
    assert!(deep.err.text().contains("stack"), "{}", deep.err.text());
}

#[tokio::test]
async fn termination_ends_a_sleeper_with_its_signal() {
    let world = World::new();
    let pod = world.pod("sleeper");
    let sleeper = world.run(&pod, "probe", &["sleep"]).await;
    assert!(sleeper.container.exit().is_none());
    sleeper.container.terminate();
    sleeper.container.kill(); // too late
    assert_eq!(sleeper.exit().await.code, 143);
    soon("the same again", sleeper.container.wait()).await;
}
