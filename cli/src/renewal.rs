//! A node's certificates are renewed before their end, while the node runs.
//!
//! Each of the two has a task of its own, so that one that nobody approves does not keep the other from being renewed. A new
//! one is used before it is kept: a full disk must not cost the node its cluster. What fails is told, in the log and by an
//! event of the node, and tried again until it works.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::bail;
use arc_swap::ArcSwap;
use coracle_link::{Keys, Purpose, Validity};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    join,
    kubeconfig::Access,
    membership::{Membership, Pair},
};

mod told;

use told::Told;

/// How often a certificate's age is looked at: a machine that slept does not wait out a timer that slept too.
const LOOK: Duration = Duration::from_secs(3600);
/// The pause after a renewal that failed, doubled each time up to [`RETRY_MOST`].
const RETRY_LEAST: Duration = Duration::from_secs(1);
/// The longest such pause: what stood in the way is often mended by a person, who then looks whether it works.
const RETRY_MOST: Duration = Duration::from_secs(60);
/// The part of what is left of a certificate for which a request for the next one waits: there is time for others after it.
const PATIENCE_PART: u32 = 4;
/// The least time that a request waits: controllers that have just started need some.
const PATIENCE_LEAST: Duration = Duration::from_secs(5);
/// The longest: then the cluster drops requests about which nobody has decided.
const PATIENCE_MOST: Duration = Duration::from_secs(24 * 3600);

/// A client whose certificate may change while it is used.
#[derive(Clone)]
pub struct Renewable(Arc<ArcSwap<Client>>);

impl Renewable {
    /// A client of that access.
    ///
    /// # Errors
    /// When the access cannot be used.
    pub async fn new(access: &Access) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(client(access).await?))))
    }

    /// The client, as others use it: each request goes out with the certificate of its time.
    #[must_use]
    pub fn client(&self) -> Client {
        let current = self.0.clone();
        let service = tower::service_fn(move |request| {
            let client = current.load_full();
            async move { client.send(request).await }
        });
        Client::new(service, "default")
    }
}

async fn client(access: &Access) -> anyhow::Result<Client> {
    let kubeconfig: Kubeconfig = serde_yaml::from_value(access.to_value())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The certificates of a node as they are used now, and by what they are used.
pub struct Renewal {
    held: Mutex<Held>,
    current: Renewable,
    keys: Arc<Keys>,
    node: String,
}

struct Held {
    membership: Membership,
    serving: Pair,
    /// What is used and not kept yet.
    unkept: Vec<Purpose>,
}

impl Renewal {
    /// Of these, which are used by the client towards the API and by the node's port and links.
    #[must_use]
    pub fn new(membership: Membership, serving: Pair, current: Renewable, keys: Arc<Keys>) -> Self {
        Self {
            node: membership.node.clone(),
            held: Mutex::new(Held {
                membership,
                serving,
                unkept: Vec::new(),
            }),
            current,
            keys,
        }
    }

    /// Renews both when they are due, until the shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let work = async { tokio::join!(self.renew(Purpose::Client), self.renew(Purpose::Serving)) };
        shutdown.run_until_cancelled(work).await;
    }

    async fn renew(&self, purpose: Purpose) {
        let mut told = Told::new(self.current.client(), &self.node, purpose);
        let mut failures = 0;
        loop {
            let pause = match self.look(purpose).await {
                Ok(pause) => {
                    failures = 0;
                    told.well();
                    pause
                }
                Err(error) => {
                    let pause = retry_after(failures);
                    failures += 1;
                    told.failed(&self.failure(purpose, &error)).await;
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Renews what is due, and says when to look again.
    async fn look(&self, purpose: Purpose) -> anyhow::Result<Duration> {
        let validity = self.validity(purpose);
        if until_due(validity, SystemTime::now()).is_zero() {
            let patience = patience(validity, SystemTime::now());
            let made = join::certificate(&self.current.client(), &self.node, purpose, Some(patience)).await?;
            self.take(purpose, made).await?;
        }
        self.keep(purpose)?;
        let next = until_due(self.validity(purpose), SystemTime::now());
        if next.is_zero() {
            bail!("the one that the cluster has signed should be renewed at once");
        }
        Ok(next.min(LOOK))
    }

    fn validity(&self, purpose: Purpose) -> Option<Validity> {
        let held = self.held.lock();
        coracle_link::validity(match purpose {
            Purpose::Client => &held.membership.access.cert_pem,
            Purpose::Serving => &held.serving.0,
        })
    }

    /// Uses a new certificate from now on. One that cannot be used changes nothing.
    async fn take(&self, purpose: Purpose, made: Pair) -> anyhow::Result<()> {
        let access = match purpose {
            Purpose::Client => {
                let before = self.held.lock().membership.access.clone();
                let access = Access {
                    cert_pem: made.0.clone(),
                    key_pem: made.1.clone(),
                    ..before
                };
                Some((client(&access).await?, access))
            }
            Purpose::Serving => None,
        };
        let mut held = self.held.lock();
        let mut credentials = held.membership.credentials(held.serving.clone());
        match purpose {
            Purpose::Client => credentials.client = made.clone(),
            Purpose::Serving => credentials.serving = made.clone(),
        }
        self.keys.replace(&credentials)?;
        match access {
            Some((client, access)) => {
                self.current.0.store(Arc::new(client));
                held.membership.access = access;
            }
            None => held.serving = made,
        }
        held.unkept.push(purpose);
        tracing::info!(node = %self.node, ?purpose, "a certificate of this node was renewed");
        Ok(())
    }

    /// Writes what is used and not kept yet.
    fn keep(&self, purpose: Purpose) -> anyhow::Result<()> {
        let mut held = self.held.lock();
        if held.unkept.contains(&purpose) {
            match purpose {
                Purpose::Client => held.membership.keep_client()?,
                Purpose::Serving => held.membership.keep_serving(&held.serving)?,
            }
            held.unkept.retain(|unkept| *unkept != purpose);
        }
        Ok(())
    }

    fn failure(&self, purpose: Purpose, error: &anyhow::Error) -> String {
        let which = match purpose {
            Purpose::Client => "client",
            Purpose::Serving => "serving",
        };
        let is_over = self
            .validity(purpose)
            .is_none_or(|validity| validity.until <= SystemTime::now());
        let more = match (is_over, purpose) {
            (false, _) => "",
            (true, Purpose::Serving) => "; it is over, so that nobody reaches this node",
            (true, Purpose::Client) => {
                "; it is over: start this node again with --token, which `coracle token create` makes"
            }
        };
        format!("the {which} certificate of this node cannot be renewed: {error:#}{more}")
    }
}

/// How long until a certificate should be renewed.
fn until_due(validity: Option<Validity>, now: SystemTime) -> Duration {
    let due = validity.and_then(|validity| validity.renew_at().duration_since(now).ok());
    due.unwrap_or_default()
}

/// How long a request for the next certificate may wait.
fn patience(validity: Option<Validity>, now: SystemTime) -> Duration {
    let left = validity.and_then(|validity| validity.until.duration_since(now).ok());
    (left.unwrap_or_default() / PATIENCE_PART).clamp(PATIENCE_LEAST, PATIENCE_MOST)
}

/// The pause after a failure, before which there were so many.
fn retry_after(failures: u32) -> Duration {
    let doubled = 2_u32
        .checked_pow(failures)
        .and_then(|times| RETRY_LEAST.checked_mul(times));
    doubled.unwrap_or(RETRY_MOST).min(RETRY_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn seconds(from: u64, until: u64) -> Option<Validity> {
        let (from, until) = (at(from), at(until));
        Some(Validity { from, until })
    }

    #[test]
    fn a_certificate_is_due_before_its_end() {
        assert_eq!(until_due(seconds(0, 1000), at(0)), Duration::from_secs(700));
        assert_eq!(until_due(seconds(0, 1000), at(699)), Duration::from_secs(1));
        for late in [700, 1000, 2000] {
            assert_eq!(until_due(seconds(0, 1000), at(late)), Duration::ZERO);
        }
        assert_eq!(until_due(None, at(0)), Duration::ZERO, "what is none is replaced");
    }

    #[test]
    fn a_request_leaves_time_for_others() {
        let year = 365 * 86_400;
        assert_eq!(patience(seconds(0, year), at(year * 7 / 10)), PATIENCE_MOST);
        assert_eq!(patience(seconds(0, 4000), at(2800)), Duration::from_secs(300));
        for over in [seconds(0, 10), None] {
            assert_eq!(patience(over, at(20)), PATIENCE_LEAST);
        }
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let pauses: Vec<u64> = [0, 1, 2, 5, 6, 31, 32, 1000].map(|n| retry_after(n).as_secs()).into();
        assert_eq!(pauses, [1, 2, 4, 32, 60, 60, 60, 60]);
    }
}
