//! `mesh-sidecar`: mutual TLS, retries and shares of the traffic, for containers that know nothing of it.
//!
//! All TCP traffic of its pod comes here (annotations `coracle.dev/sidecar...`). What the application connects to by a name of
//! `MESH_ROUTES` goes to one of that route's services, by their weights, over TLS on which both sides prove who they are; a
//! service that cannot be reached is followed by another attempt. Everything else goes on as it is. What others connect to is
//! taken only over TLS, from the clients of `MESH_CLIENTS`, and handed to the application over the pod's loopback.
//!
//! | environment | meaning | default |
//! |---|---|---|
//! | `MESH_ROUTES` | `quotes:8080=quotes-v1:8080*9,quotes-v2:8080*1`; several are separated by `;` | none |
//! | `MESH_CLIENTS` | names of those who may come in, separated by `,` | nobody |
//! | `MESH_CERTIFICATES` | a directory with `ca.crt`, `tls.crt` and `tls.key` (PEM) | `/certificates` |
//! | `MESH_OUTBOUND`, `MESH_INBOUND` | the ports of the annotations | 15001, 15006 |
//!
//! A side is known by the DNS name in its certificate, which is the name of its service.

mod routes;
mod secured;
mod socket;

use std::env;
use std::io::{Error, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use futures_lite::future::try_zip;
use wstd::runtime::spawn;
use wstd::task::sleep;
use wstd::time::Duration;

use routes::{Route, Routes};
use secured::{Identity, Secured};
use socket::{Listener, Socket};

/// How often a connection is tried, each time at the service whose turn it is.
const ATTEMPTS: usize = 3;
/// The pause before names are looked up again that nobody knows yet.
const LOOK_AGAIN_SECONDS: u64 = 1;
/// Bytes that are carried at a time: the most that one TLS record holds.
const PIECE_BYTES: usize = 16 * 1024;

struct Mesh {
    routes: Routes,
    clients: Vec<String>,
    identity: Identity,
}

#[wstd::main]
async fn main() -> Result<()> {
    let setting = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let mut routes = Routes::parse(&setting("MESH_ROUTES", "")).map_err(Error::other)?;
    let clients = setting("MESH_CLIENTS", "");
    let clients = clients.split(',').map(str::trim).filter(|name| !name.is_empty());
    let identity = Identity::read(&setting("MESH_CERTIFICATES", "/certificates"))?;
    let port = |name: &str, default: &str| setting(name, default).parse::<u16>().map_err(Error::other);
    let (outbound, inbound) = (port("MESH_OUTBOUND", "15001")?, port("MESH_INBOUND", "15006")?);
    let inbound = Listener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, inbound))).await?;
    let outbound = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, outbound))).await?;
    while let Err(error) = routes.look_up() {
        println!("mesh: {error}");
        sleep(Duration::from_secs(LOOK_AGAIN_SECONDS)).await;
    }
    let mesh = Rc::new(Mesh {
        routes,
        clients: clients.map(str::to_owned).collect(),
        identity,
    });
    println!("mesh: ready");
    try_zip(
        serve(&outbound, &mesh, "outbound", |mesh, socket| async move {
            mesh.outbound(socket).await
        }),
        serve(&inbound, &mesh, "inbound", |mesh, socket| async move {
            mesh.inbound(socket).await
        }),
    )
    .await?;
    Ok(())
}

/// Takes connections for ever, each in a task of its own.
async fn serve<F>(
    listener: &Listener,
    mesh: &Rc<Mesh>,
    what: &'static str,
    with: fn(Rc<Mesh>, Socket) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + 'static,
{
    loop {
        let socket = listener.accept().await?;
        let work = with(mesh.clone(), socket);
        // One that breaks is its own affair.
        spawn(async move {
            if let Err(error) = work.await {
                println!("mesh: {what}: {error}");
            }
        })
        .detach();
    }
}

impl Mesh {
    /// Carries on what the application has connected to.
    async fn outbound(&self, app: Socket) -> Result<()> {
        let to = app.local_address()?;
        let Some(route) = self.routes.find(to) else {
            let far = Socket::connect(to).await?;
            return plain(&app, &far).await;
        };
        let secured = self.reach(route).await?;
        carry(&app, &secured).await
    }

    /// A connection to a service of a route.
    async fn reach(&self, route: &Route) -> Result<Secured> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let target = route.next();
            let made = async {
                let socket = Socket::connect(target.address).await?;
                Secured::client(socket, &self.identity, &target.name).await
            };
            match made.await {
                Ok(secured) => return Ok(secured),
                Err(error) => {
                    println!("mesh: {} is not reached: {error}", target.name);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::other("no attempt")))
    }

    /// Hands what others have connected to on to the application, once they have said who they are.
    async fn inbound(&self, socket: Socket) -> Result<()> {
        let port = socket.local_address()?.port();
        let secured = Secured::server(socket, &self.identity, &self.clients).await?;
        let app = Socket::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        carry(&app, &secured).await
    }
}

/// Carries both directions between a socket and a secured one to their ends.
async fn carry(plain: &Socket, secured: &Secured) -> Result<()> {
    let out = async {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match plain.read(&mut piece).await? {
                0 => return secured.finish().await,
                count => secured.write(&piece[..count]).await?,
            }
        }
    };
    let back = async {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match secured.read(&mut piece).await? {
                0 => return plain.finish(),
                count => plain.write(&piece[..count]).await?,
            }
        }
    };
    try_zip(out, back).await?;
    Ok(())
}

/// The same between two sockets.
async fn plain(one: &Socket, other: &Socket) -> Result<()> {
    let carry = async |from: &Socket, to: &Socket| {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match from.read(&mut piece).await? {
                0 => return to.finish(),
                count => to.write(&piece[..count]).await?,
            }
        }
    };
    try_zip(carry(one, other), carry(other, one)).await?;
    Ok(())
}
