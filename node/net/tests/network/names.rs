//! The cluster's DNS, asked over real sockets of the host, inside the network, and through a pod's resolver.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use coracle_net::{Dns, Endpoint, Fabric, NetError, Protocol, Service, ServicePort};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::world::{addr, endpoint, fabric, ip, pod, service, soon, tell};

fn services() -> Vec<Service> {
    let metrics = ServicePort {
        name: "metrics".into(),
        protocol: Protocol::Udp,
        port: 9125,
        ..ServicePort::default()
    };
    let mut web = service("web", "10.96.0.20");
    web.cluster_ips.push(ip("fd00:96::20"));
    web.ports.push(metrics);
    let mut db = service("db", "10.96.0.21");
    db.cluster_ips.clear();
    db.headless = true;
    db.endpoints = vec![
        Endpoint {
            hostname: Some("db-0".into()),
            ..endpoint(5, 5432)
        },
        Endpoint {
            hostname: Some("DB-1".into()),
            ..endpoint(6, 5433)
        },
        endpoint(7, 5432),
        Endpoint {
            ready: false,
            hostname: Some("db-3".into()),
            ..endpoint(8, 5432)
        },
    ];
    let alias = |name: &str, to: &str| Service {
        namespace: "demo".into(),
        name: name.into(),
        external_name: Some(to.into()),
        ..Service::default()
    };
    let empty = Service {
        headless: true,
        cluster_ips: vec![],
        ..service("empty", "10.96.0.22")
    };
    let eager = Service {
        publish_not_ready: true,
        headless: true,
        cluster_ips: vec![],
        endpoints: vec![Endpoint {
            ready: false,
            ..endpoint(9, 80)
        }],
        ..service("eager", "10.96.0.22")
    };
    let other = Service {
        namespace: "other".into(),
        ..service("web", "10.96.0.30")
    };
    vec![
        web,
        db,
        alias("out", "example.com"),
        alias("in", "web.demo.svc.cluster.local"),
        alias("loop-a", "loop-b.demo.svc.cluster.local"),
        alias("loop-b", "loop-a.demo.svc.cluster.local"),
        empty,
        eager,
        other,
    ]
}

/// A DNS server on sockets of the host.
struct World {
    fabric: Fabric,
    udp: SocketAddr,
    tcp: SocketAddr,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), coracle_net::DnsError>>,
}

impl World {
    fn new() -> Self {
        let fabric = fabric();
        tell(&fabric, services());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let dns = Dns::bind(fabric.clone(), vec![udp], vec![tcp]);
        let running = tokio::spawn(dns.run(shutdown.clone()));
        Self {
            fabric,
            udp: udp_at,
            tcp: tcp_at,
            shutdown,
            running,
        }
    }

    /// Asks over UDP.
    async fn ask(&self, query: &Message) -> Message {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&query.to_vec().unwrap(), self.udp).await.unwrap();
        let mut buffer = vec![0; 65_535];
        let (length, _) = soon(socket.recv_from(&mut buffer)).await.unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_utf8(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    message
}

/// The data of records as sorted text.
fn texts(records: &[Record]) -> Vec<String> {
    let mut texts: Vec<String> = records
        .iter()
        .map(|record| match &record.data {
            RData::SRV(srv) => format!("{} {}", srv.port, srv.target),
            RData::SOA(_) => format!("SOA {}", record.name),
            data => data.to_string(),
        })
        .collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn what_each_name_answers() {
    use RecordType as T;
    let world = World::new();
    let _pod = pod(&world.fabric, 44);
    let found: &[(&str, T, &[&str])] = &[
        ("web.demo.svc.cluster.local", T::A, &["10.96.0.20"]),
        ("WEB.Demo.svc.Cluster.LOCAL", T::A, &["10.96.0.20"]),
        ("web.demo.svc.cluster.local", T::AAAA, &["fd00:96::20"]),
        ("web.other.svc.cluster.local", T::A, &["10.96.0.30"]),
        (
            "db.demo.svc.cluster.local",
            T::A,
            &["10.244.0.5", "10.244.0.6", "10.244.0.7"],
        ),
        ("db-0.db.demo.svc.cluster.local", T::A, &["10.244.0.5"]),
        ("db-1.db.demo.svc.cluster.local", T::A, &["10.244.0.6"]),
        ("10-244-0-7.db.demo.svc.cluster.local", T::A, &["10.244.0.7"]),
        ("eager.demo.svc.cluster.local", T::A, &["10.244.0.9"]),
        (
            "_http._tcp.web.demo.svc.cluster.local",
            T::SRV,
            &["80 web.demo.svc.cluster.local."],
        ),
        (
            "_metrics._udp.web.demo.svc.cluster.local",
            T::SRV,
            &["9125 web.demo.svc.cluster.local."],
        ),
        (
            "_http._tcp.db.demo.svc.cluster.local",
            T::SRV,
            &[
                "5432 10-244-0-7.db.demo.svc.cluster.local.",
                "5432 db-0.db.demo.svc.cluster.local.",
                "5433 db-1.db.demo.svc.cluster.local.",
            ],
        ),
        ("out.demo.svc.cluster.local", T::A, &["example.com."]),
        ("out.demo.svc.cluster.local", T::CNAME, &["example.com."]),
        (
            "in.demo.svc.cluster.local",
            T::A,
            &["10.96.0.20", "web.demo.svc.cluster.local."],
        ),
        ("10-244-9-9.demo.pod.cluster.local", T::A, &["10.244.9.9"]),
        ("20.0.96.10.in-addr.arpa", T::PTR, &["web.demo.svc.cluster.local."]),
        ("5.0.244.10.in-addr.arpa", T::PTR, &["db-0.db.demo.svc.cluster.local."]),
        (
            "7.0.244.10.in-addr.arpa",
            T::PTR,
            &["10-244-0-7.db.demo.svc.cluster.local."],
        ),
        (
            "44.0.244.10.in-addr.arpa",
            T::PTR,
            &["10-244-0-44.demo.pod.cluster.local."],
        ),
        ("dns-version.cluster.local", T::TXT, &["1.1.0"]),
        ("cluster.local", T::NS, &["ns.cluster.local."]),
        ("ns.cluster.local", T::A, &["10.96.0.10"]),
        ("cluster.local", T::SOA, &["SOA cluster.local."]),
    ];
    for (name, kind, expected) in found {
        let answer = world.ask(&question(name, *kind)).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name} {kind}");
        assert_eq!(texts(&answer.answers), *expected, "{name} {kind}");
        assert!(
            answer.metadata.authoritative && answer.metadata.id == 7,
            "{name} {kind}"
        );
        assert!(answer.answers.iter().all(|record| record.ttl == 5), "{name} {kind}");
    }
    let nothing = [
        ("absent.demo.svc.cluster.local", T::A, ResponseCode::NXDomain),
        ("web.absent.svc.cluster.local", T::A, ResponseCode::NXDomain),
        ("absent.svc.cluster.local", T::A, ResponseCode::NXDomain),
        ("empty.demo.svc.cluster.local", T::A, ResponseCode::NXDomain),
        ("db-3.db.demo.svc.cluster.local", T::A, ResponseCode::NXDomain),
        ("_http._udp.web.demo.svc.cluster.local", T::SRV, ResponseCode::NXDomain),
        ("_ftp._tcp.web.demo.svc.cluster.local", T::SRV, ResponseCode::NXDomain),
        ("192-0-2-1.demo.pod.cluster.local", T::A, ResponseCode::NXDomain),
        ("x.y.z.cluster.local", T::A, ResponseCode::NXDomain),
        ("db.demo.svc.cluster.local", T::AAAA, ResponseCode::NoError),
        ("web.demo.svc.cluster.local", T::MX, ResponseCode::NoError),
        ("demo.svc.cluster.local", T::A, ResponseCode::NoError),
        ("svc.cluster.local", T::A, ResponseCode::NoError),
        ("_tcp.web.demo.svc.cluster.local", T::A, ResponseCode::NoError),
        ("99.0.244.10.in-addr.arpa", T::PTR, ResponseCode::NXDomain),
        ("20.0.96.10.in-addr.arpa", T::A, ResponseCode::NoError),
    ];
    for (name, kind, code) in nothing {
        let answer = world.ask(&question(name, kind)).await;
        assert_eq!(answer.metadata.response_code, code, "{name} {kind}");
        assert!(
            answer.answers.is_empty() && answer.metadata.authoritative,
            "{name} {kind}"
        );
        let apex = if name.ends_with("arpa") {
            "SOA in-addr.arpa."
        } else {
            "SOA cluster.local."
        };
        assert_eq!(texts(&answer.authorities), [apex], "{name} {kind}");
    }
    for name in ["example.com", "local", "1.2.0.192.in-addr.arpa", "."] {
        let answer = world.ask(&question(name, T::A)).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name}");
    }
}

#[tokio::test]
async fn srv_answers_bring_the_addresses() {
    let world = World::new();
    let answer = world
        .ask(&question("_http._tcp.db.demo.svc.cluster.local", RecordType::SRV))
        .await;
    assert_eq!(texts(&answer.additionals), ["10.244.0.5", "10.244.0.6", "10.244.0.7"]);
    let whole = world
        .ask(&question("web.demo.svc.cluster.local", RecordType::SRV))
        .await;
    assert_eq!(whole.answers.len(), 2);
    assert_eq!(
        texts(&whole.additionals),
        ["10.96.0.20", "fd00:96::20"],
        "once for both ports"
    );
}

#[tokio::test]
async fn an_alias_loop_ends() {
    let world = World::new();
    let answer = world
        .ask(&question("loop-a.demo.svc.cluster.local", RecordType::A))
        .await;
    assert!(
        answer
            .answers
            .iter()
            .all(|record| record.record_type() == RecordType::CNAME)
    );
    let pod = pod(&world.fabric, 2);
    assert_eq!(pod.resolve("loop-a"), Err(NetError::NameNotFound));
}

#[tokio::test]
async fn messages_that_are_no_plain_questions() {
    let world = World::new();
    let mut update = question("web.demo.svc.cluster.local", RecordType::A);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(world.ask(&update).await.metadata.response_code, ResponseCode::NotImp);
    let mut future = question("web.demo.svc.cluster.local", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    future.set_edns(edns);
    // Two names share the number on the wire.
    let code = world.ask(&future).await.metadata.response_code;
    assert_eq!(u16::from(code), u16::from(ResponseCode::BADVERS));
    let mut chaos = question("web.demo.svc.cluster.local", RecordType::A);
    chaos.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
    assert_eq!(world.ask(&chaos).await.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn long_answers_are_cut_over_udp_and_whole_over_tcp() {
    let world = World::new();
    let mut big = service("big", "10.96.0.99");
    big.cluster_ips.clear();
    big.headless = true;
    big.endpoints = (10..110).map(|last| endpoint(last, 80)).collect();
    tell(&world.fabric, vec![big]);
    let mut query = question("big.demo.svc.cluster.local", RecordType::A);
    let cut = world.ask(&query).await;
    assert!(cut.metadata.truncation && cut.answers.len() < 100);

    let mut stream = tokio::net::TcpStream::connect(world.tcp).await.unwrap();
    let bytes = query.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut reply = vec![0; soon(stream.read_u16()).await.unwrap().into()];
    soon(stream.read_exact(&mut reply)).await.unwrap();
    let whole = Message::from_vec(&reply).unwrap();
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 100));

    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    query.set_edns(edns);
    let whole = world.ask(&query).await;
    assert_eq!(
        (whole.metadata.truncation, whole.answers.len(), whole.edns.is_some()),
        (false, 100, true)
    );
}

#[tokio::test]
async fn pods_ask_the_cluster_dns_address() {
    let world = World::new();
    let pod = pod(&world.fabric, 2);
    let at = addr("10.96.0.10:53");
    let query = question("db.demo.svc.cluster.local", RecordType::A).to_vec().unwrap();
    let socket = pod.bind_udp(addr("0.0.0.0:0")).unwrap();
    // The server registers on its own task.
    soon(async {
        while socket.send(query.clone().into(), Some(at)).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (reply, from) = soon(socket.recv()).await.unwrap();
    assert_eq!((Message::from_vec(&reply).unwrap().answers.len(), from), (3, at));

    let mut stream = pod.connect(at).stream().await.unwrap();
    for _ in 0..2 {
        stream.write_u16(query.len() as u16).await.unwrap();
        stream.write_all(&query).await.unwrap();
        let mut reply = vec![0; soon(stream.read_u16()).await.unwrap().into()];
        soon(stream.read_exact(&mut reply)).await.unwrap();
        assert_eq!(Message::from_vec(&reply).unwrap().answers.len(), 3);
    }

    socket.send(query[..20].to_vec().into(), Some(at)).unwrap();
    let (reply, _) = soon(socket.recv()).await.unwrap();
    assert_eq!(
        Message::from_vec(&reply).unwrap().metadata.response_code,
        ResponseCode::FormErr
    );

    world.shutdown.cancel();
    soon(world.running).await.unwrap().unwrap();
    assert_eq!(pod.connect(at).await.unwrap_err(), NetError::ConnectionRefused);
}

#[tokio::test]
async fn a_pods_resolver_follows_its_search_path() {
    let world = World::new();
    let pod = pod(&world.fabric, 2);
    let expected: &[(&str, Result<&[&str], NetError>)] = &[
        ("web", Ok(&["10.96.0.20", "fd00:96::20"])),
        ("web.demo", Ok(&["10.96.0.20", "fd00:96::20"])),
        ("web.other", Ok(&["10.96.0.30"])),
        ("web.other.svc", Ok(&["10.96.0.30"])),
        ("web.other.svc.cluster.local", Ok(&["10.96.0.30"])),
        ("web.other.svc.cluster.local.", Ok(&["10.96.0.30"])),
        ("db-0.db", Ok(&["10.244.0.5"])),
        ("in", Ok(&["10.96.0.20", "fd00:96::20"])),
        ("pod-2", Ok(&["10.244.0.2"])),
        ("localhost", Ok(&["127.0.0.1", "::1"])),
        ("10.1.2.3", Ok(&["10.1.2.3"])),
        ("web.", Err(NetError::NameNotFound)),
        ("out", Err(NetError::NameNotFound)),
        ("example.com", Err(NetError::NameNotFound)),
        ("empty", Err(NetError::NameNotFound)),
        ("a..b", Err(NetError::NameNotFound)),
    ];
    for (name, expected) in expected {
        let ips = pod.resolve(name);
        let expected = expected.map(|ips| ips.iter().map(|text| ip(text)).collect::<Vec<_>>());
        assert_eq!(ips, expected, "{name}");
    }
    pod.set_hosts(vec![(ip("10.244.0.2"), vec!["web-0".into(), "web-0.web".into()])]);
    assert_eq!(pod.resolve("web-0.web"), Ok(vec![ip("10.244.0.2")]));
    assert_eq!(pod.resolve("pod-2"), Err(NetError::NameNotFound));
    pod.set_dns(coracle_net::DnsConfig {
        searches: vec!["other.svc.cluster.local".into()],
        ndots: 1,
    });
    assert_eq!(pod.resolve("web"), Ok(vec![ip("10.96.0.30")]));
    let names = world.fabric.snapshot().services.len();
    assert_eq!(names, services().len());
}

/// A resolver that knows one name, cuts its answers over UDP where the name says so, and answers others' questions first.
async fn resolver() -> SocketAddr {
    // A port that is free for UDP may be somebody's for TCP.
    let (udp, tcp, at) = loop {
        let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = udp.local_addr().unwrap();
        if let Ok(tcp) = tokio::net::TcpListener::bind(at).await {
            break (udp, tcp, at);
        }
    };
    fn answer(query: &[u8], cut: bool) -> Message {
        let query = Message::from_vec(query).unwrap();
        let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        let name = query.queries[0].name().clone();
        answer.add_query(query.queries[0].clone());
        if name.to_string().starts_with("absent") {
            answer.metadata.response_code = ResponseCode::NXDomain;
        } else if cut && name.to_string().starts_with("long") {
            answer.metadata.truncation = true;
        } else {
            let address = RData::A(hickory_proto::rr::rdata::A("192.0.2.7".parse().unwrap()));
            answer.answers.push(Record::from_rdata(name, 300, address));
        }
        answer
    }
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            let answer = answer(&buffer[..length], true);
            let mut forged = answer.clone();
            forged.metadata.id = forged.metadata.id.wrapping_add(1);
            forged.metadata.response_code = ResponseCode::Refused;
            for message in [forged, answer] {
                udp.send_to(&message.to_vec().unwrap(), from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut query = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut query).await.unwrap();
            let answer = answer(&query, false).to_vec().unwrap();
            stream.write_u16(answer.len() as u16).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    at
}

#[tokio::test]
async fn other_names_are_asked_of_the_resolver_that_is_named() {
    let fabric = fabric();
    tell(&fabric, services());
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp_at = udp.local_addr().unwrap();
    let dns = Dns::bind(fabric.clone(), vec![udp], vec![]).with_upstream(Some(resolver().await));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(dns.run(shutdown.clone()));
    let ask = async |query: Message| {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&query.to_vec().unwrap(), udp_at).await.unwrap();
        let mut buffer = vec![0; 65_535];
        let (length, _) = soon(socket.recv_from(&mut buffer)).await.unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    };
    for name in ["example.com", "long.example.com"] {
        let answer = ask(question(name, RecordType::A)).await;
        assert_eq!(texts(&answer.answers), ["192.0.2.7"], "{name}");
        assert!(answer.metadata.recursion_available && !answer.metadata.authoritative);
        assert_eq!(answer.answers[0].ttl, 300);
    }
    let absent = ask(question("absent.example.com", RecordType::A)).await;
    assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
    // Our own names are ours, whether they are there or not.
    let own = ask(question("web.demo.svc.cluster.local", RecordType::A)).await;
    assert_eq!(texts(&own.answers), ["10.96.0.20"]);
    let none = ask(question("absent.demo.svc.cluster.local", RecordType::A)).await;
    assert!(none.metadata.authoritative && none.metadata.response_code == ResponseCode::NXDomain);
    // Who does not want recursion gets none.
    let mut plain = question("example.com", RecordType::A);
    plain.metadata.recursion_desired = false;
    assert_eq!(ask(plain).await.metadata.response_code, ResponseCode::Refused);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn malformed_messages_harm_nobody() {
    let world = World::new();
    let good = question("web.demo.svc.cluster.local", RecordType::A).to_vec().unwrap();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // Every cut of a question, counts that promise more than there is, names that point at themselves, and noise.
    let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|length| good[..length].to_vec()).collect();
    for at in 4..12 {
        let mut counts = good.clone();
        counts[at] = 0xff;
        bad.push(counts);
    }
    let mut pointer = good[..12].to_vec();
    pointer.extend([0xc0, 12, 0, 1, 0, 1]);
    bad.push(pointer);
    let mut long = good[..12].to_vec();
    long.extend([63; 300]);
    bad.push(long);
    bad.push(vec![0xff; 512]);
    for message in &bad {
        socket.send_to(message, world.udp).await.unwrap();
        let mut stream = tokio::net::TcpStream::connect(world.tcp).await.unwrap();
        stream.write_u16(message.len() as u16).await.unwrap();
        stream.write_all(message).await.unwrap();
    }
    let answer = world.ask(&question("web.demo.svc.cluster.local", RecordType::A)).await;
    assert_eq!(texts(&answer.answers), ["10.96.0.20"]);
    // The same inside the network.
    let pod = pod(&world.fabric, 2);
    let inside = pod.bind_udp(addr("0.0.0.0:0")).unwrap();
    for message in &bad {
        inside
            .send(message.clone().into(), Some(addr("10.96.0.10:53")))
            .unwrap();
    }
    assert_eq!(pod.resolve("web").unwrap()[0], ip("10.96.0.20"));
}
