//! Which services stand behind a name, and whose turn it is.

use std::cell::RefCell;
use std::net::{SocketAddr, ToSocketAddrs};

/// All routes.
#[derive(Debug)]
pub struct Routes(Vec<Route>);

/// A name of the application's and the services behind it.
#[derive(Debug)]
pub struct Route {
    /// `NAME:PORT`, as the application connects to it.
    from: String,
    address: Option<SocketAddr>,
    targets: RefCell<Vec<Weighted>>,
}

#[derive(Debug)]
struct Weighted {
    target: Target,
    weight: i64,
    /// How far it is behind its share.
    owed: i64,
}

/// A service.
#[derive(Debug, Clone)]
pub struct Target {
    /// The name that its certificate must have.
    pub name: String,
    port: u16,
    /// Where it is, once its name has been looked up.
    pub address: SocketAddr,
}

impl Routes {
    /// Reads `FROM:PORT=TO:PORT*WEIGHT,...;...`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let routes = text.split(';').map(str::trim).filter(|text| !text.is_empty());
        routes.map(Route::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Looks up all names.
    pub fn look_up(&mut self) -> std::io::Result<()> {
        for route in &mut self.0 {
            route.address = Some(address(&route.from)?);
            for weighted in route.targets.get_mut() {
                let target = &mut weighted.target;
                target.address = address(&format!("{}:{}", target.name, target.port))?;
            }
        }
        Ok(())
    }

    /// The route for a destination.
    pub fn find(&self, to: SocketAddr) -> Option<&Route> {
        self.0.iter().find(|route| route.address == Some(to))
    }
}

fn address(name: &str) -> std::io::Result<SocketAddr> {
    let found = name
        .to_socket_addrs()
        .map_err(|error| std::io::Error::other(format!("{name}: {error}")))?;
    let mut v4 = found.filter(SocketAddr::is_ipv4);
    v4.next()
        .ok_or_else(|| std::io::Error::other(format!("{name} has no address")))
}

impl Route {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no route such as quotes:8080=quotes-v1:8080*9,quotes-v2:8080*1");
        let (from, targets) = text.split_once('=').ok_or_else(wrong)?;
        let mut weighted = Vec::new();
        for target in targets.split(',') {
            let (place, weight) = target.trim().split_once('*').unwrap_or((target.trim(), "1"));
            let (name, port) = place.rsplit_once(':').ok_or_else(wrong)?;
            let port = port.parse().map_err(|_| wrong())?;
            weighted.push(Weighted {
                target: Target {
                    name: name.to_owned(),
                    port,
                    address: SocketAddr::from(([0, 0, 0, 0], port)),
                },
                weight: weight.parse().ok().filter(|weight| *weight > 0).ok_or_else(wrong)?,
                owed: 0,
            });
        }
        Ok(Self {
            from: from.trim().to_owned(),
            address: None,
            targets: RefCell::new(weighted),
        })
    }

    /// The service whose turn it is: each gets its share of any few turns in a row, as evenly as can be.
    pub fn next(&self) -> Target {
        let mut targets = self.targets.borrow_mut();
        let all: i64 = targets.iter().map(|weighted| weighted.weight).sum();
        for weighted in targets.iter_mut() {
            weighted.owed += weighted.weight;
        }
        // A route that was read has a target.
        let most = targets.iter_mut().max_by_key(|weighted| weighted.owed).unwrap();
        most.owed -= all;
        most.target.clone()
    }
}
