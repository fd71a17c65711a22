//! `wasi:http` components.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use coracle_runtime::{ContainerSpec, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, soon};

#[tokio::test]
async fn web_serves_over_the_fabric() {
    let world = World::new();
    let pod = world.pod("site");
    let web = world.run_with(&pod, "web", &[], |spec| {
        spec.http_port = 80;
        spec.env.push(("GREETING".into(), "Welcome".into()));
    });
    let web = web.await;
    let answer = world.get(&pod, 80, "/page").await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.contains("content-type: text/plain"),
        "{answer}"
    );
    assert!(
        answer.contains("Welcome from site") && answer.contains("/page"),
        "{answer}"
    );
    web.out.wait_for("web: /page").await;
    assert!(web.container.usage().cpu_nanos > 0 && web.container.usage().memory_bytes > 0);
    web.container.terminate();
    assert_eq!(web.exit().await.code, 143);
    assert!(world.fabric.dial_pod(pod.ip, (pod.ip, 80).into()).await.is_err());
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let world = World::new();
    let pod = world.pod("site");
    let _web = world.run(&pod, "web", &[]).await;
    let mut stream = world.fabric.dial_pod(pod.ip, (pod.ip, 8080).into()).await.unwrap();
    soon("three answers", async {
        for n in 0..3 {
            stream
                .write_all(format!("GET /{n} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let mut answer = String::new();
            while !answer.contains(&format!("you asked for /{n}\n")) {
                let mut part = [0; 1024];
                let n = stream.read(&mut part).await.unwrap();
                assert!(n > 0, "{answer}");
                answer += std::str::from_utf8(&part[..n]).unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_program_that_takes_one_request_an_instance_gets_a_fresh_one_for_each() {
    let world = World::new();
    let pod = world.pod("site");
    let once = world.run(&pod, "once", &[]).await;
    for n in 0..4 {
        let answer = world.get(&pod, 8080, &format!("/{n}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "request {n}: {answer}");
    }
    // The second one showed it, and was asked again where nobody had answered before.
    once.out.wait_for("once: no answer to /1").await;
    once.err.wait_for("answers one request").await;
    assert!(!once.out.text().contains("/2"), "{}", once.out.text());
}

#[tokio::test]
async fn a_request_that_may_change_something_is_not_made_twice_and_gets_an_instance_that_answers() {
    let world = World::new();
    let pod = world.pod("site");
    let once = world.run(&pod, "once", &[]).await;
    let post = "POST /p HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    for _ in 0..3 {
        let answer = world.ask(&pod, 8080, post).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(once.out.text(), "");
    // Who leaves a first request without an answer keeps nobody waiting either.
    let answer = world.get(&pod, 8080, "/never").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    once.err.wait_for("left without an answer").await;
}

#[tokio::test]
async fn many_clients_at_once_are_all_answered() {
    let world = World::new();
    let pod = world.pod("site");
    let web = world.run(&pod, "web", &[]).await;
    let start = Instant::now();
    let paths: Vec<_> = (0..100).map(|n| format!("/{n}")).collect();
    let answers = futures::future::join_all(paths.iter().map(|path| world.get(&pod, 8080, path))).await;
    for (n, answer) in answers.iter().enumerate() {
        assert!(answer.contains(&format!("you asked for /{n}\n")), "{answer}");
    }
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!(web.out.text().lines().count(), 100);
}

#[tokio::test]
async fn a_container_over_its_memory_limit_ends() {
    let world = World::new();
    let pod = world.pod("small");
    let web = world
        .run_with(&pod, "web", &[], |spec| spec.memory_limit_bytes = Some(64 << 10))
        .await;
    let _ = world.get(&pod, 8080, "/").await;
    assert_eq!(web.exit().await.reason.as_str(), "OOMKilled");
}

#[tokio::test]
async fn a_taken_port_is_told_at_once() {
    let world = World::new();
    let pod = world.pod("site");
    let _web = world.run(&pod, "web", &[]).await;
    let error = world.refused(&pod, world.module("web").await, |_| {}).to_string();
    assert_eq!(error, "cannot listen on port 8080 of the pod: address already in use");
}

#[tokio::test]
async fn a_guest_fetches_through_the_pod_network_and_nothing_else() {
    let world = World::new();
    let (server, client) = (world.pod("server"), world.pod("client"));
    let _web = world.run(&server, "web", &[]).await;
    world.service("web", [10, 96, 0, 99], 80, &[(&server, 8080)]);
    let fetch = async |url: [&str; 3]| {
        let [scheme, authority, path] = url;
        world
            .run(&client, "probe", &["fetch", scheme, authority, path])
            .await
            .printed()
            .await
    };
    let answer = fetch(["http", "web", "/from-afar"]).await;
    assert!(
        answer.starts_with("200 ") && answer.contains("you asked for /from-afar"),
        "{answer}"
    );
    assert!(
        fetch(["http", &format!("{}:8080", server.ip), "/"])
            .await
            .starts_with("200 ")
    );
    assert!(fetch(["http", "nowhere", "/"]).await.contains("NXDOMAIN"));
    assert!(
        fetch(["http", "127.0.0.1:8080", "/"])
            .await
            .contains("ConnectionRefused")
    );
    assert!(fetch(["https", "web", "/"]).await.contains("TLS"));
}

#[tokio::test]
async fn a_container_has_so_many_requests_under_way_and_is_told_of_more() {
    let world = World::new();
    let (server, client) = (world.pod("server"), world.pod("client"));
    // It reads what one client sends, and answers nobody.
    let silent = world.run(&server, "probe", &["sink", "0.0.0.0:80"]).await;
    silent.out.wait_for("listening").await;
    let (to, few) = (server.ip.to_string(), limits::HTTP_OUTGOING.to_string());
    let count = (limits::HTTP_OUTGOING + 20).to_string();
    let said = world
        .run(&client, "hostile", &["requests-held", &to, &count, &few])
        .await;
    assert_eq!(
        said.printed().await,
        format!("{few} under way, the others [\"Err(ErrorCode::ConnectionLimitReached)\"]\n")
    );
}

#[tokio::test]
async fn what_the_host_holds_of_messages_is_the_containers_memory() {
    let world = World::new();
    for what in ["methods", "fields", "bodies"] {
        let pod = world.pod(what);
        let limited = |spec: &mut ContainerSpec| spec.memory_limit_bytes = Some(16 << 20);
        let exit = world.run_with(&pod, "hostile", &[what], limited).await.exit().await;
        assert_eq!(
            (exit.reason.as_str(), exit.code),
            ("OOMKilled", 137),
            "{what}: {exit:?}"
        );
    }
    // So are answers, whose requests are over.
    let server: SocketAddr = ([10, 96, 0, 9], 80).into();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n",
        format!("x: {}\r\n", "y".repeat(4000)).repeat(50)
    );
    let served = world.fabric.serve_host(server, move |mut stream| {
        let head = head.clone();
        async move {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(head.as_bytes()).await;
        }
    });
    let _server = served.unwrap();
    let pod = world.pod("collector");
    let collector = world.run_with(&pod, "hostile", &["kept-answers", "10.96.0.9:80"], |spec| {
        spec.memory_limit_bytes = Some(16 << 20)
    });
    let exit = collector.await.exit().await;
    assert_eq!(exit.reason.as_str(), "OOMKilled", "{exit:?}");
    // What was let go is paid no more: a thousand messages, one after the other.
    let pod = world.pod("thrifty");
    let guest = world.run_with(&pod, "hostile", &["messages", "1000"], |spec| {
        spec.memory_limit_bytes = Some(4 << 20)
    });
    assert_eq!(guest.await.printed().await, "made\n");
}

#[tokio::test]
async fn who_says_nothing_keeps_nobody_out() {
    let world = World::new();
    let (site, client) = (world.pod("site"), world.pod("client"));
    let _web = world.run(&site, "web", &[]).await;
    let knocks = world
        .run(&client, "hostile", &["knock", &format!("{}:8080", site.ip)])
        .await;
    soon("all places to be taken", async {
        while site.net.sockets() < limits::HTTP_CONNECTIONS {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for n in 0..20 {
        let answer = world.get(&site, 8080, &format!("/{n}")).await;
        assert!(answer.contains(&format!("you asked for /{n}\n")), "{answer}");
    }
    assert!(knocks.container.exit().is_none());
}
