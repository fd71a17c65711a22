//! Takes part in an election: waits for the Lease, works while it holds it, gives it back.
//!
//! Work gets a client of its own whose writes are refused once the time of the last renewal is over. So nothing is written
//! after leadership even if the one who should notice its end is late, as after a process was stopped for a while.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Method, Request};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, Client, api::PostParams, client::Body};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Contender, JITTER, Record, Timing};
use crate::clock::Clock;

/// Where the Leases of the cluster's own parts lie.
const NAMESPACE: &str = "kube-system";

/// Attempts to give the Lease back; one suffices unless somebody writes to it at the same moment.
const RELEASES: usize = 3;

/// What there is to tell of an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Another one leads.
    Waiting(String),
    /// This one leads.
    Leading,
    /// The Lease could not be read or written; it is tried again.
    Trouble(String),
}

/// Leadership ended before the work did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Somebody else holds the Lease.
    #[error("leadership lost: the lease {NAMESPACE}/{lease} is held by {holder}")]
    Taken {
        /// The Lease.
        lease: &'static str,
        /// Who holds it.
        holder: String,
    },
    /// The Lease could not be renewed in time.
    #[error("leadership lost: the lease {NAMESPACE}/{lease} could not be renewed within {within:?}: {trouble}")]
    NotRenewed {
        /// The Lease.
        lease: &'static str,
        /// How long was tried.
        within: Duration,
        /// What went wrong last.
        trouble: String,
    },
}

/// One contender for a Lease.
pub struct Election {
    client: Client,
    leases: Api<Lease>,
    lease: &'static str,
    identity: String,
    timing: Timing,
    clock: Clock,
    contender: Contender,
    gate: Arc<Gate>,
    trouble: String,
}

impl Election {
    /// A contender for that Lease in `kube-system`; `host` begins its identity, for people to recognise.
    #[must_use]
    pub fn new(client: Client, lease: &'static str, host: &str, timing: Timing) -> Self {
        let identity = format!("{host}_{:016x}", rand::random::<u64>());
        Self {
            leases: Api::namespaced(client.clone(), NAMESPACE),
            client,
            lease,
            contender: Contender::new(identity.clone(), timing),
            identity,
            timing,
            clock: Clock::system(),
            gate: Arc::new(Gate::new()),
            trouble: String::new(),
        }
    }

    /// Who it is in the Lease.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Waits for the Lease, then does `work` with a client whose writes end with leadership, until the work ends; it is
    /// asked to by `shutdown`. Then gives the Lease back.
    ///
    /// # Errors
    /// When leadership ends before the work does. The work has been told to stop, and can write no more.
    pub async fn lead<W>(
        mut self,
        shutdown: &CancellationToken,
        tell: impl Fn(&News),
        work: impl FnOnce(Client, CancellationToken) -> W,
    ) -> Result<(), Lost>
    where
        W: Future<Output = ()>,
    {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = self.acquire(&tell) => {}
        }
        let stop = shutdown.child_token();
        let client = gated(&self.client, self.gate.clone());
        let mut work = pin!(work(client, stop.clone()));
        let lost = tokio::select! {
            () = &mut work => None,
            lost = self.renew(&tell) => Some(lost),
        };
        match lost {
            None => {
                self.release().await;
                Ok(())
            }
            Some(lost) => {
                stop.cancel();
                Err(lost)
            }
        }
    }

    /// Tries until it leads.
    async fn acquire(&mut self, tell: &impl Fn(&News)) {
        let mut told = None;
        loop {
            self.attempt(self.timing.renew).await;
            let news = match (self.leads(), self.contender.holder()) {
                (true, _) => News::Leading,
                (false, _) if !self.trouble.is_empty() => News::Trouble(self.trouble.clone()),
                (false, holder) => News::Waiting(holder.unwrap_or_default().to_owned()),
            };
            if told.as_ref() != Some(&news) {
                tell(&news);
            }
            if news == News::Leading {
                return;
            }
            told = Some(news);
            let longer = 1.0 + rand::random::<f64>() * (JITTER - 1.0);
            tokio::time::sleep(self.timing.retry.mul_f64(longer)).await;
        }
    }

    /// Renews until it leads no more.
    async fn renew(&mut self, tell: &impl Fn(&News)) -> Lost {
        loop {
            tokio::time::sleep(self.timing.retry.min(self.left())).await;
            let before = self.trouble.clone();
            if self.leads() {
                // An attempt that hangs leaves time for another one.
                self.attempt(self.left().min(self.timing.renew / 2)).await;
            } else if before.is_empty() {
                self.trouble = "the process stood still".to_owned();
            }
            if !self.trouble.is_empty() && self.trouble != before {
                tell(&News::Trouble(self.trouble.clone()));
            }
            if self.leads() {
                continue;
            }
            let lease = self.lease;
            return match self.contender.holder() {
                Some(holder) if holder != self.identity => Lost::Taken {
                    lease,
                    holder: holder.to_owned(),
                },
                _ => Lost::NotRenewed {
                    lease,
                    within: self.timing.renew,
                    trouble: self.trouble.clone(),
                },
            };
        }
    }

    /// Looks at the Lease once, and writes to it if it is this one's turn. What went wrong is in `trouble`.
    async fn attempt(&mut self, limit: Duration) {
        let result = tokio::time::timeout(limit, self.look()).await;
        self.trouble = match result {
            Ok(Ok(())) => String::new(),
            // Somebody was faster; the next look tells who.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => String::new(),
            Ok(Err(kube::Error::Api(status))) => status.message.clone(),
            Ok(Err(error)) => causes(&error),
            Err(_) => format!("no answer within {} ms", limit.as_millis()),
        };
        self.gate.set(self.contender.leads_until());
    }

    async fn look(&mut self) -> kube::Result<()> {
        let began = self.gate.at();
        let found = self.leases.get_opt(self.lease).await?;
        self.contender.saw(found.as_ref().map(record), self.gate.at());
        if let Some(claim) = self.contender.claim(self.gate.at(), self.clock.now()) {
            let written = self.write(found, &claim).await?;
            self.contender.won(record(&written), began, self.gate.at());
        }
        Ok(())
    }

    async fn write(&self, found: Option<Lease>, claim: &Record) -> kube::Result<Lease> {
        let params = PostParams::default();
        match found {
            // With the resource version that was read: it fails if somebody has written since.
            Some(mut lease) => {
                tell(claim, lease.spec.get_or_insert_default());
                self.leases.replace(self.lease, &params, &lease).await
            }
            None => {
                let mut lease = Lease::default();
                lease.metadata.name = Some(self.lease.to_owned());
                tell(claim, lease.spec.get_or_insert_default());
                self.leases.create(&params, &lease).await
            }
        }
    }

    /// Gives the Lease back, so that nobody has to wait for its end.
    async fn release(&mut self) {
        for _ in 0..RELEASES {
            match tokio::time::timeout(self.timing.retry, self.try_release()).await {
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {}
                Ok(Ok(())) => return,
                Ok(Err(error)) => return tracing::warn!(%error, lease = self.lease, "the lease was not given back"),
                Err(_) => return tracing::warn!(lease = self.lease, "the lease was not given back in time"),
            }
        }
    }

    async fn try_release(&mut self) -> kube::Result<()> {
        let found = self.leases.get_opt(self.lease).await?;
        self.contender.saw(found.as_ref().map(record), self.gate.at());
        let released = self.contender.release(self.clock.now());
        self.gate.set(Duration::ZERO);
        if let Some(released) = released {
            self.write(found, &released).await?;
        }
        Ok(())
    }

    fn leads(&self) -> bool {
        self.contender.leads(self.gate.at())
    }

    fn left(&self) -> Duration {
        self.contender.leads_until().saturating_sub(self.gate.at())
    }
}

/// Lets writes through while it is open: until a time, by a clock that nobody sets.
struct Gate {
    started: Instant,
    until_micros: AtomicU64,
}

impl Gate {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            until_micros: AtomicU64::new(0),
        }
    }

    /// The time since it was made.
    fn at(&self) -> Duration {
        self.started.elapsed()
    }

    fn set(&self, until: Duration) {
        let micros = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
        self.until_micros.store(micros, Ordering::Release);
    }

    fn is_open(&self) -> bool {
        self.at() < Duration::from_micros(self.until_micros.load(Ordering::Acquire))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("not written: this process does not lead any more")]
struct NotLeading;

/// The same client, but that nothing is written through it while the gate is closed.
fn gated(client: &Client, gate: Arc<Gate>) -> Client {
    let (inner, namespace) = (client.clone(), client.default_namespace().to_owned());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, gate) = (inner.clone(), gate.clone());
        async move {
            match request.method() == Method::GET || gate.is_open() {
                true => client.send(request).await.map_err(tower::BoxError::from),
                false => Err(NotLeading.into()),
            }
        }
    });
    Client::new(service, namespace)
}

fn record(lease: &Lease) -> Record {
    let Some(spec) = &lease.spec else {
        return Record::default();
    };
    let time = |time: &Option<MicroTime>| time.as_ref().map(|time| time.0);
    Record {
        holder: spec.holder_identity.clone().unwrap_or_default(),
        lease_seconds: spec.lease_duration_seconds.unwrap_or_default(),
        acquired: time(&spec.acquire_time),
        renewed: time(&spec.renew_time),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

fn tell(record: &Record, spec: &mut LeaseSpec) {
    spec.holder_identity = Some(record.holder.clone());
    spec.lease_duration_seconds = Some(record.lease_seconds);
    spec.acquire_time = record.acquired.map(MicroTime);
    spec.renew_time = record.renewed.map(MicroTime);
    spec.lease_transitions = Some(record.transitions);
}

/// An error with what caused it; a client's own errors say little without.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
