//! Random binds, connects, transfers and closings from three pods, compared with a model of what sockets mean.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use coracle_net::{Binding, Conn, Fabric, NetError, PodNet, TryRead};
use futures::FutureExt;
use proptest::prelude::*;

use crate::world::{fabric, ip, pod};

const PODS: usize = 3;
const BACKLOG: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    Bind { pod: usize, at: At, port: u16 },
    Listen { binding: usize },
    Connect { pod: usize, to: To, port: u16 },
    Accept { binding: usize },
    Write { end: usize, bytes: usize },
    Read { end: usize, max: usize },
    ShutdownWrite { end: usize },
    ShutdownRead { end: usize },
    DropBinding { binding: usize },
    DropEnd { end: usize },
    RemovePod { pod: usize },
}

/// Where to bind.
#[derive(Debug, Clone, Copy)]
enum At {
    Any4,
    Any6,
    Loopback4,
    Loopback6,
    Own,
    Foreign,
}

/// What to connect to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum To {
    Loopback4,
    Loopback6,
    Pod(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let pod = 0..PODS;
    let port = 80u16..82;
    let any = 0usize..1000;
    let at = prop_oneof![
        Just(At::Any4),
        Just(At::Any6),
        Just(At::Loopback4),
        Just(At::Loopback6),
        Just(At::Own),
        Just(At::Foreign)
    ];
    let to = prop_oneof![Just(To::Loopback4), Just(To::Loopback6), (0..PODS).prop_map(To::Pod)];
    prop_oneof![
        4 => (pod.clone(), at, port.clone()).prop_map(|(pod, at, port)| Step::Bind { pod, at, port }),
        4 => any.clone().prop_map(|binding| Step::Listen { binding }),
        8 => (pod.clone(), to, port).prop_map(|(pod, to, port)| Step::Connect { pod, to, port }),
        6 => any.clone().prop_map(|binding| Step::Accept { binding }),
        8 => (any.clone(), 0usize..3000).prop_map(|(end, bytes)| Step::Write { end, bytes }),
        8 => (any.clone(), 1usize..6000).prop_map(|(end, max)| Step::Read { end, max }),
        2 => any.clone().prop_map(|end| Step::ShutdownWrite { end }),
        2 => any.clone().prop_map(|end| Step::ShutdownRead { end }),
        2 => any.clone().prop_map(|binding| Step::DropBinding { binding }),
        3 => any.prop_map(|end| Step::DropEnd { end }),
        1 => pod.prop_map(|pod| Step::RemovePod { pod }),
    ]
}

/// The destinations that a bound address receives; two bindings clash when they share one.
fn covers(at: At) -> &'static [To] {
    const OWN: To = To::Pod(usize::MAX);
    match at {
        At::Any4 => &[To::Loopback4, OWN],
        At::Any6 => &[To::Loopback4, OWN, To::Loopback6],
        At::Loopback4 => &[To::Loopback4],
        At::Loopback6 => &[To::Loopback6],
        At::Own => &[OWN],
        At::Foreign => &[],
    }
}

fn within_pod(to: To) -> To {
    if let To::Pod(_) = to { To::Pod(usize::MAX) } else { to }
}

struct ModelBinding {
    real: Binding,
    pod: usize,
    at: At,
    port: u16,
    listening: bool,
    queue: VecDeque<usize>,
}

struct ModelEnd {
    real: Conn,
    link: usize,
    client: bool,
}

#[derive(Default)]
struct Direction {
    data: VecDeque<u8>,
    fin: bool,
    reader_gone: bool,
}

#[derive(Default)]
struct ModelLink {
    to_server: Direction,
    to_client: Direction,
    reset: bool,
    client_pod: usize,
    server_pod: Option<usize>,
}

impl ModelLink {
    fn reset(&mut self) {
        self.reset = true;
        self.to_server.data.clear();
        self.to_client.data.clear();
    }
}

struct Model {
    fabric: Fabric,
    pods: Vec<Arc<PodNet>>,
    removed: [bool; PODS],
    bindings: Vec<ModelBinding>,
    ends: Vec<ModelEnd>,
    links: Vec<ModelLink>,
    written: u8,
}

impl Model {
    fn new() -> Self {
        let fabric = fabric();
        let pods = (0..PODS).map(|n| pod(&fabric, n as u8 + 2)).collect();
        Self {
            fabric,
            pods,
            removed: [false; PODS],
            bindings: Vec::new(),
            ends: Vec::new(),
            links: Vec::new(),
            written: 0,
        }
    }

    fn take(&mut self, step: Step) {
        let binding = |n: usize| (!self.bindings.is_empty()).then(|| n % self.bindings.len());
        let end = |n: usize| (!self.ends.is_empty()).then(|| n % self.ends.len());
        match step {
            Step::Bind { pod, at, port } => self.bind(pod, at, port),
            Step::Connect { pod, to, port } => self.connect(pod, to, port),
            Step::RemovePod { pod } => self.remove(pod),
            Step::Listen { binding: n } => binding(n).into_iter().for_each(|n| self.listen(n)),
            Step::Accept { binding: n } => binding(n).into_iter().for_each(|n| self.accept(n)),
            Step::DropBinding { binding: n } => binding(n).into_iter().for_each(|n| self.drop_binding(n)),
            Step::Write { end: n, bytes } => end(n).into_iter().for_each(|n| self.write(n, bytes)),
            Step::Read { end: n, max } => end(n).into_iter().for_each(|n| self.read(n, max)),
            Step::ShutdownWrite { end: n } => end(n).into_iter().for_each(|n| self.shutdown_write(n)),
            Step::ShutdownRead { end: n } => end(n).into_iter().for_each(|n| self.shutdown_read(n)),
            Step::DropEnd { end: n } => end(n).into_iter().for_each(|n| self.drop_end(n)),
        }
    }

    fn bind(&mut self, pod: usize, at: At, port: u16) {
        let ip = match at {
            At::Any4 => ip("0.0.0.0"),
            At::Any6 => ip("::"),
            At::Loopback4 => ip("127.0.0.1"),
            At::Loopback6 => ip("::1"),
            At::Own => self.pods[pod].ips()[0],
            At::Foreign => IpAddr::from([10, 244, 0, 99]),
        };
        let mut held = self.bindings.iter().filter(|held| held.pod == pod && held.port == port);
        let expected = if matches!(at, At::Foreign) {
            Err(NetError::AddrNotAvailable)
        } else if self.removed[pod] {
            Err(NetError::NetworkDown)
        } else if held.any(|held| covers(held.at).iter().any(|to| covers(at).contains(to))) {
            Err(NetError::AddrInUse)
        } else {
            Ok(())
        };
        let bound = self.pods[pod].bind(SocketAddr::new(ip, port));
        assert_eq!(bound.as_ref().map(drop).map_err(|error| *error), expected);
        if let Ok(real) = bound {
            self.bindings.push(ModelBinding {
                real,
                pod,
                at,
                port,
                listening: false,
                queue: VecDeque::new(),
            });
        }
    }

    fn listen(&mut self, n: usize) {
        let binding = &mut self.bindings[n];
        let expected = if self.removed[binding.pod] {
            Err(NetError::NetworkDown)
        } else {
            Ok(())
        };
        assert_eq!(binding.real.listen(BACKLOG), expected);
        binding.listening |= expected.is_ok();
    }

    fn connect(&mut self, pod: usize, to: To, port: u16) {
        let server = if let To::Pod(server) = to { server } else { pod };
        let ip = match to {
            To::Loopback4 => ip("127.0.0.1"),
            To::Loopback6 => ip("::1"),
            To::Pod(server) => self.pods[server].ips()[0],
        };
        let removed = self.removed;
        let receiver = self.bindings.iter_mut().find(|held| {
            !removed[server] && held.pod == server && held.port == port && covers(held.at).contains(&within_pod(to))
        });
        let got = self.pods[pod].connect(SocketAddr::new(ip, port)).now_or_never();
        let down = self.removed[pod];
        let expected = match receiver {
            _ if self.removed[server] && pod != server => Err(NetError::HostUnreachable),
            Some(held) if held.listening && !down => {
                if held.queue.len() == BACKLOG {
                    assert!(got.is_none(), "a full backlog makes the connect wait");
                    return;
                }
                held.queue.push_back(self.links.len());
                Ok(())
            }
            _ => Err(NetError::ConnectionRefused),
        };
        let got = got.expect("nothing to wait for");
        if down {
            // Which of its troubles a removed pod is told first does not matter.
            assert!(got.is_err());
            return;
        }
        assert_eq!(got.as_ref().map(drop).map_err(|error| *error), expected);
        if let Ok(real) = got {
            self.ends.push(ModelEnd {
                real,
                link: self.links.len(),
                client: true,
            });
            self.links.push(ModelLink {
                client_pod: pod,
                ..ModelLink::default()
            });
        }
    }

    fn accept(&mut self, n: usize) {
        let binding = &mut self.bindings[n];
        let got = binding.real.try_accept();
        if self.removed[binding.pod] {
            assert_eq!(got.unwrap_err(), NetError::NetworkDown);
        } else if !binding.listening {
            assert_eq!(got.unwrap_err(), NetError::InvalidState);
        } else {
            let got = got.unwrap();
            let link = binding.queue.pop_front();
            assert_eq!(got.is_some(), link.is_some());
            if let (Some(real), Some(link)) = (got, link) {
                self.links[link].server_pod = Some(binding.pod);
                self.ends.push(ModelEnd {
                    real,
                    link,
                    client: false,
                });
            }
        }
    }

    fn drop_binding(&mut self, n: usize) {
        let binding = self.bindings.swap_remove(n);
        binding.queue.iter().for_each(|link| self.links[*link].reset());
    }

    fn write(&mut self, n: usize, bytes: usize) {
        let end = &self.ends[n];
        let link = &mut self.links[end.link];
        let reset = link.reset;
        let direction = if end.client {
            &mut link.to_server
        } else {
            &mut link.to_client
        };
        let data: Vec<u8> = (0..bytes).map(|n| self.written.wrapping_add(n as u8)).collect();
        let expected = if reset {
            Err(NetError::ConnectionReset)
        } else if direction.fin || direction.reader_gone {
            Err(NetError::BrokenPipe)
        } else {
            Ok(bytes)
        };
        assert_eq!(
            end.real.writable_bytes().map(|free| free >= bytes),
            expected.map(|_| true)
        );
        assert_eq!(end.real.try_write(Bytes::from(data.clone())), expected);
        if expected.is_ok() {
            direction.data.extend(data);
            self.written = self.written.wrapping_add(bytes as u8);
        }
    }

    fn read(&mut self, n: usize, max: usize) {
        let end = &self.ends[n];
        let link = &mut self.links[end.link];
        let reset = link.reset;
        let direction = if end.client {
            &mut link.to_client
        } else {
            &mut link.to_server
        };
        let readable = end.real.readable().now_or_never().is_some();
        match end.real.try_read(max) {
            Err(error) => assert!(reset && error == NetError::ConnectionReset),
            Ok(TryRead::Data(got)) => {
                assert!(readable && !reset && !direction.reader_gone && !got.is_empty() && got.len() <= max);
                assert!(direction.data.drain(..got.len()).eq(got));
            }
            Ok(TryRead::End) => {
                assert!(readable && !reset && direction.data.is_empty());
                assert!(direction.fin || direction.reader_gone);
            }
            Ok(TryRead::Empty) => {
                assert!(!readable && !reset && direction.data.is_empty());
                assert!(!direction.fin && !direction.reader_gone);
            }
        }
    }

    fn shutdown_write(&mut self, n: usize) {
        let end = &self.ends[n];
        end.real.shutdown_write();
        let link = &mut self.links[end.link];
        if end.client {
            &mut link.to_server
        } else {
            &mut link.to_client
        }
        .fin = true;
    }

    fn shutdown_read(&mut self, n: usize) {
        let end = &self.ends[n];
        end.real.shutdown_read();
        let link = &mut self.links[end.link];
        let direction = if end.client {
            &mut link.to_client
        } else {
            &mut link.to_server
        };
        direction.reader_gone = true;
        direction.data.clear();
    }

    fn drop_end(&mut self, n: usize) {
        self.shutdown_write(n);
        self.shutdown_read(n);
        self.ends.swap_remove(n);
    }

    fn remove(&mut self, pod: usize) {
        self.fabric.remove_pod(&self.pods[pod].identity().uid);
        self.removed[pod] = true;
        for binding in self.bindings.iter_mut().filter(|binding| binding.pod == pod) {
            binding.queue.drain(..).for_each(|link| self.links[link].reset());
        }
        let open: Vec<(usize, bool)> = self.ends.iter().map(|end| (end.link, end.client)).collect();
        for (link, client) in open {
            let link = &mut self.links[link];
            let here = if client {
                link.client_pod == pod
            } else {
                link.server_pod == Some(pod)
            };
            if here {
                link.reset();
            }
        }
    }

    /// With all sockets gone, nothing is held anywhere.
    fn finish(mut self) {
        self.ends.clear();
        self.bindings.clear();
        assert!(self.pods.iter().all(|pod| pod.sockets() == 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_network_does_what_the_model_says(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _within = runtime.enter();
        let mut model = Model::new();
        for step in steps {
            model.take(step);
        }
        model.finish();
    }
}
