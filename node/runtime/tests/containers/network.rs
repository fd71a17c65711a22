//! Sockets of guests over the pod network.

use std::net::{Ipv4Addr, TcpListener};

use coracle_net::{LabelSelector, Labels, NetworkPolicy, Policies};

use crate::world::World;

#[tokio::test]
async fn hello_serves_on_the_pods_address() {
    let world = World::new();
    let pod = world.pod("greeter");
    let hello = world
        .run_with(&pod, "hello", &[], |spec| {
            spec.env.push(("GREETING".into(), "Ahoy".into()))
        })
        .await;
    hello.out.wait_for("listening").await;
    let answer = world.get(&pod, 8080, "/boat").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(
        answer.contains("Ahoy from greeter") && answer.contains("GET /boat"),
        "{answer}"
    );
    hello.out.wait_for("GET /boat").await;
}

#[tokio::test]
async fn a_silent_client_and_one_that_leaves_do_not_stop_the_server() {
    let world = World::new();
    let pod = world.pod("greeter");
    let hello = world.run(&pod, "hello", &[]).await;
    hello.out.wait_for("listening").await;
    let address = (pod.ip, 8080).into();
    let _silent = world.fabric.dial_pod(pod.ip, address).await.unwrap();
    drop(world.fabric.dial_pod(pod.ip, address).await.unwrap());
    assert!(world.get(&pod, 8080, "/").await.contains("Hello from greeter"));
}

#[tokio::test]
async fn containers_of_a_pod_meet_on_its_loopback_and_others_do_not_reach_it() {
    let world = World::new();
    let (pod, other) = (world.pod("web"), world.pod("other"));
    let app = world
        .run_with(&pod, "hello", &[], |spec| spec.env.push(("PORT".into(), "9090".into())))
        .await;
    app.out.wait_for("listening").await;
    let sidecar = world.run(&pod, "proxy-sidecar", &[]).await;
    sidecar.out.wait_for("->").await;

    for count in 1..=2 {
        let answer = world.get(&pod, 8080, "/").await;
        assert!(answer.contains(&format!("x-coracle-sidecar: {count}\r\n")), "{answer}");
        assert!(
            answer.contains("via: 1.1 proxy-sidecar") && answer.contains("Hello from web"),
            "{answer}"
        );
    }
    let refused = world
        .run(&other, "probe", &["connect", "127.0.0.1:9090", "127.0.0.1:8080"])
        .await;
    assert_eq!(
        refused.printed().await,
        "127.0.0.1:9090: ConnectionRefused\n127.0.0.1:8080: ConnectionRefused\n"
    );
}

#[tokio::test]
async fn a_sidecar_without_its_application_says_so_and_lives_on() {
    let world = World::new();
    let pod = world.pod("web");
    let sidecar = world.run(&pod, "proxy-sidecar", &[]).await;
    sidecar.out.wait_for("->").await;
    assert!(world.get(&pod, 8080, "/").await.starts_with("HTTP/1.1 502 Bad Gateway"));
    // A client that leaves in the middle of its request.
    drop(world.fabric.dial_pod(pod.ip, (pod.ip, 8080).into()).await.unwrap());
    let app = world
        .run_with(&pod, "hello", &[], |spec| spec.env.push(("PORT".into(), "9090".into())))
        .await;
    app.out.wait_for("listening").await;
    assert!(world.get(&pod, 8080, "/").await.contains("Hello from web"));
}

#[tokio::test]
async fn a_request_body_passes_the_sidecar() {
    let world = World::new();
    let pod = world.pod("web");
    let sidecar = world.run_with(&pod, "proxy-sidecar", &[], |spec| {
        spec.env = vec![
            ("LISTEN".into(), "0.0.0.0:80".into()),
            ("UPSTREAM".into(), "127.0.0.1:7000".into()),
        ];
    });
    let sidecar = sidecar.await;
    sidecar.out.wait_for("->").await;
    // The echo answers with the request itself, whose head is no response's; the sidecar passes on what it is given.
    let echo = world.run(&pod, "probe", &["echo", "127.0.0.1:7000"]).await;
    echo.out.wait_for("listening").await;
    let answer = world
        .ask(
            &pod,
            80,
            "POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello",
        )
        .await;
    assert!(
        answer.starts_with("POST /x HTTP/1.1\r\n") && answer.ends_with("\r\n\r\nhello"),
        "{answer}"
    );
}

#[tokio::test]
async fn two_pods_bind_the_same_port_and_one_pod_cannot_twice() {
    let world = World::new();
    let (first, second) = (world.pod("first"), world.pod("second"));
    let a = world.run(&first, "hello", &[]).await;
    let b = world.run(&second, "hello", &[]).await;
    a.out.wait_for("listening").await;
    b.out.wait_for("listening").await;
    assert!(world.get(&second, 8080, "/").await.contains("Hello from second"));
    let again = world
        .run(
            &first,
            "probe",
            &["bind", "0.0.0.0:8080", "10.244.9.9:80", "127.0.0.1:81"],
        )
        .await;
    let printed = again.printed().await;
    assert_eq!(
        printed,
        "0.0.0.0:8080: AddrInUse\n10.244.9.9:80: AddrNotAvailable\n127.0.0.1:81: bound\n"
    );
}

#[tokio::test]
async fn the_hosts_loopback_is_out_of_reach() {
    let world = World::new();
    let pod = world.pod("prisoner");
    let host = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = host.local_addr().unwrap().port();
    let escape = world
        .run(
            &pod,
            "probe",
            &["connect", &format!("127.0.0.1:{port}"), "[::1]:22", "192.0.2.1:80"],
        )
        .await;
    let printed = escape.printed().await;
    assert_eq!(printed.matches("reached").count(), 0, "{printed}");
    assert!(
        printed.starts_with(&format!("127.0.0.1:{port}: ConnectionRefused\n")),
        "{printed}"
    );
    host.set_nonblocking(true).unwrap();
    assert_eq!(host.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_caller_finds_a_service_by_its_name() {
    let world = World::new();
    let (server, client) = (world.pod("server"), world.pod("client"));
    let hello = world.run(&server, "hello", &[]).await;
    hello.out.wait_for("listening").await;
    world.service("web", [10, 96, 0, 99], 80, &[(&server, 8080)]);
    for name in ["web", "web.demo", "web.demo.svc.cluster.local"] {
        let caller = world.run(&client, "caller", &[&format!("http://{name}/who")]).await;
        let printed = caller.printed().await;
        assert!(
            printed.contains("Hello from server") && printed.contains("GET /who"),
            "{printed}"
        );
    }
    let lost = world.run(&client, "caller", &["http://nowhere/"]).await;
    assert_eq!(lost.exit().await.code, 1);

    let resolve = world.run(&client, "probe", &["resolve", "web.demo.svc"]).await;
    assert_eq!(resolve.printed().await, "Ok([10.96.0.99:0])\n");
}

#[tokio::test]
async fn a_stream_keeps_every_byte_under_back_pressure() {
    let world = World::new();
    let (sink, source) = (world.pod("sink"), world.pod("source"));
    let receiver = world.run(&sink, "probe", &["sink", "0.0.0.0:7000"]).await;
    receiver.out.wait_for("listening").await;
    let sender = world
        .run(&source, "probe", &["stream", &format!("{}:7000", sink.ip), "16"])
        .await;
    assert_eq!(sender.printed().await, format!("{} bytes\n", 16 << 20));
    receiver.printed().await;
}

#[tokio::test]
async fn datagrams_go_there_and_back() {
    let world = World::new();
    let (server, client) = (world.pod("server"), world.pod("client"));
    let echo = world.run(&server, "probe", &["udp-echo", "0.0.0.0:53"]).await;
    echo.out.wait_for("listening").await;
    let ask = world
        .run(&client, "probe", &["udp-ask", &format!("{}:53", server.ip)])
        .await;
    assert_eq!(ask.printed().await, "ping\n");
}

#[tokio::test]
async fn too_many_sockets_are_an_error_that_the_guest_survives() {
    let world = World::new();
    let pod = world.pod("greedy");
    let greedy = world.run(&pod, "probe", &["sockets"]).await;
    let printed = greedy.printed().await;
    let count: usize = printed.split(' ').next().unwrap().parse().unwrap();
    assert!((1..=coracle_net::MAX_SOCKETS_PER_POD).contains(&count), "{printed}");
    // The quota was the guest's: with its end all sockets are free again.
    let next = world.run(&pod, "probe", &["bind", "0.0.0.0:80"]).await;
    assert_eq!(next.printed().await, "0.0.0.0:80: bound\n");
}

#[tokio::test]
async fn a_datagram_socket_says_what_is_wrong_by_name() {
    let world = World::new();
    let pod = world.pod("careful");
    let said = world.run(&pod, "probe", &["rules", "udp"]).await.printed().await;
    let expected = "fresh, local: Err(\"invalid-state\")
fresh, streams: Err(\"invalid-state\")
fresh, finish: Err(\"not-in-progress\")
other family: Err(\"invalid-argument\")
multicast: Err(\"invalid-argument\")
somebody else: Err(\"address-not-bindable\")
begin: Ok(())
begin again: Err(\"concurrency-conflict\")
begun, local: Err(\"invalid-state\")
finish: Ok(())
finish again: Err(\"not-in-progress\")
bound, begin: Err(\"invalid-state\")
local: Ok(53)
remote: Err(\"invalid-state\")
taken: Err(\"address-in-use\")
family: IpAddressFamily::Ipv4
hops: Ok(64)
no hops: Err(\"invalid-argument\")
seven hops: Ok(())
hops: Ok(7)
no room to receive: Err(\"invalid-argument\")
room to receive: Ok(())
room: Ok(9000)
no room to send: Err(\"invalid-argument\")
room to send: Ok(())
room: Ok(8000)
to nobody: Err(\"invalid-argument\")
to no port: Err(\"invalid-argument\")
to the other family: Err(\"invalid-argument\")
remote: Ok(53)
nothing there: Ok(0)
may send: Ok(16)
too large: Err(\"datagram-too-large\")
one is too large: Ok(1)
to nobody: Err(\"invalid-argument\")
none, unasked: Ok(0)
of none: Ok(0)
arrived: Ok([5])
streams anew: Ok(())
remote: Err(\"invalid-state\")
";
    assert_eq!(said, expected);
}

#[tokio::test]
async fn who_breaks_the_rules_of_datagrams_is_ended() {
    let world = World::new();
    let pod = world.pod("careless");
    for (verb, why) in [
        ("udp-streams-twice", "the socket's earlier streams are still held"),
        ("udp-send-unasked", "sent more than check-send allowed"),
    ] {
        let exit = world.run(&pod, "probe", &["rules", verb]).await.exit().await;
        let message = exit.message.clone().unwrap_or_default();
        assert!(exit.code == 134 && message.contains(why), "{verb}: {exit:?}");
        assert_eq!(pod.net.sockets(), 0, "{verb}");
    }
}

#[tokio::test]
async fn a_policy_is_told_as_such_and_names_may_exist_for_all_it_says() {
    let world = World::new();
    let (client, server) = (world.pod("client"), world.pod("server"));
    world.service("web", [10, 96, 0, 99], 80, &[(&server, 8080)]);
    let names = async || {
        let guest = world.run(
            &client,
            "probe",
            &["rules", "names", "web", "nowhere", "127.0.0.1", "localhost"],
        );
        guest.await.printed().await
    };
    let send = async || {
        let guest = world.run(&client, "probe", &["rules", "udp-send", "10.244.0.3:53"]);
        guest.await.printed().await
    };
    let found = "web: (1, Ok(()))
nowhere: (0, Err(\"name-unresolvable\"))
127.0.0.1: (1, Ok(()))
localhost: (2, Ok(()))
";
    assert_eq!(names().await, found);
    assert_eq!(server.ip.to_string(), "10.244.0.3");
    assert_eq!(send().await, "10.244.0.3:53: Ok(1)\n");

    world.fabric.update_policies(&Policies {
        policies: vec![NetworkPolicy {
            namespace: "demo".into(),
            name: "nobody-talks".into(),
            pods: LabelSelector::default(),
            ingress: None,
            egress: Some(Vec::new()),
        }],
        namespaces: vec![("demo".into(), Labels::new())],
    });
    let kept = "web: (0, Err(\"temporary-resolver-failure\"))
nowhere: (0, Err(\"temporary-resolver-failure\"))
127.0.0.1: (1, Ok(()))
localhost: (2, Ok(()))
";
    assert_eq!(names().await, kept);
    // Nobody waits for a timeout: datagrams and connections are refused at once, and by name.
    assert_eq!(send().await, "10.244.0.3:53: Err(\"access-denied\")\n");
    let refused = world.run(&client, "probe", &["connect", "10.244.0.3:53"]).await;
    assert_eq!(refused.printed().await, "10.244.0.3:53: PermissionDenied\n");
}
