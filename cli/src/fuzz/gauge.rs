//! What others feel while a guest is at work, and what the process holds.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::held::{Held, Watch};

/// Between two requests of one kind. Two hundred a second show what a hundredth of them feels, and load nobody.
const PACE: Duration = Duration::from_millis(5);

/// How long an answer may take at least before the request has failed.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What the neighbour is: the sample `web` in a pod of this name.
const ANSWER: &[u8] = b"Hello from neighbour";

/// Who is asked.
#[derive(Clone)]
pub struct Target {
    /// The neighbour's port on this machine.
    pub neighbour: SocketAddr,
    /// The API, over TLS.
    pub api: Client,
    /// How long an answer may take before the request has failed.
    pub patience: Duration,
}

/// How requests of one kind went.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answers {
    /// Requests that were answered.
    pub answered: usize,
    /// Requests that failed, or took too long.
    pub failed: usize,
    /// Half of the answers came in this time.
    pub p50_millis: f64,
    /// All but a hundredth of them.
    pub p99_millis: f64,
    /// Why the first failed that did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// What a gauge saw.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// The most that was held.
    pub peak: Held,
    /// What was held when the gauge had ended.
    pub after: Held,
    /// The neighbour's answers.
    pub neighbour: Answers,
    /// The API's.
    pub api: Answers,
}

/// Asks and looks until it is ended.
pub struct Gauge {
    stop: CancellationToken,
    neighbour: JoinHandle<Answers>,
    api: JoinHandle<Answers>,
    watch: Watch,
}

impl Gauge {
    /// Begins, on the current tokio runtime.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(target: &Target) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let (neighbour, api) = (Neighbour::new(target.neighbour), target.api.clone());
        Ok(Self {
            neighbour: tokio::spawn(ask_neighbour(neighbour, target.patience, stop.clone())),
            api: tokio::spawn(ask_api(api, target.patience, stop.clone())),
            watch: Watch::start()?,
            stop,
        })
    }

    /// Ends: what was seen.
    ///
    /// # Errors
    /// When something here has panicked: nothing was measured then.
    pub async fn end(self) -> anyhow::Result<Measured> {
        self.stop.cancel();
        let (neighbour, api) = (self.neighbour.await?, self.api.await?);
        Ok(Measured {
            peak: self.watch.peak()?,
            after: Held::now(),
            neighbour,
            api,
        })
    }
}

#[derive(Default)]
struct Times {
    nanos: Vec<u64>,
    failed: usize,
    failure: Option<String>,
}

impl Times {
    fn add(&mut self, begin: Instant, answer: anyhow::Result<()>) {
        match answer {
            Ok(()) => self
                .nanos
                .push(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX)),
            Err(error) => {
                self.failed += 1;
                self.failure.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }

    fn answers(mut self) -> Answers {
        self.nanos.sort_unstable();
        let part = |percent: usize| {
            let at = (self.nanos.len() * percent / 100).min(self.nanos.len().saturating_sub(1));
            let nanos = self.nanos.get(at).copied().unwrap_or_default();
            // Microseconds are as exact as it gets.
            (nanos / 1000) as f64 / 1000.0
        };
        Answers {
            p50_millis: part(50),
            p99_millis: part(99),
            answered: self.nanos.len(),
            failed: self.failed,
            failure: self.failure,
        }
    }
}

async fn ask_api(client: Client, patience: Duration, stop: CancellationToken) -> Answers {
    let (namespaces, mut times) = (Api::<Namespace>::all(client), Times::default());
    loop {
        let begin = Instant::now();
        let asked = tokio::time::timeout(patience, namespaces.get("default")).await;
        let answer = asked.context("no answer in time").and_then(|answer| Ok(answer?));
        times.add(begin, answer.map(drop));
        if stop.run_until_cancelled(tokio::time::sleep(PACE)).await.is_none() {
            return times.answers();
        }
    }
}

async fn ask_neighbour(mut neighbour: Neighbour, patience: Duration, stop: CancellationToken) -> Answers {
    let mut times = Times::default();
    loop {
        let begin = Instant::now();
        let asked = tokio::time::timeout(patience, neighbour.ask()).await;
        let answer = asked.context("no answer in time").flatten();
        if answer.is_err() {
            neighbour.connection = None;
        }
        times.add(begin, answer);
        if stop.run_until_cancelled(tokio::time::sleep(PACE)).await.is_none() {
            return times.answers();
        }
    }
}

/// One connection to the neighbour, made again when it is gone.
struct Neighbour {
    address: SocketAddr,
    connection: Option<SendRequest<Empty<bytes::Bytes>>>,
}

impl Neighbour {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connection: None,
        }
    }

    async fn ask(&mut self) -> anyhow::Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => {
                let stream = tokio::net::TcpStream::connect(self.address).await?;
                let (connection, work) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(work);
                connection
            }
        };
        connection.ready().await?;
        let request = http::Request::get("/")
            .header("host", self.address.to_string())
            .body(Empty::new())?;
        let answer = connection.send_request(request).await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(
            body.starts_with(ANSWER),
            "another answer: {}",
            String::from_utf8_lossy(&body)
        );
        self.connection = Some(connection);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundredth_of_the_answers_is_slower_than_the_ninety_ninth() {
        let times = Times {
            nanos: (1..=200).rev().map(|millis| millis * 1_000_000).collect(),
            ..Times::default()
        };
        let answers = times.answers();
        assert_eq!(
            (answers.answered, answers.p50_millis, answers.p99_millis),
            (200, 101.0, 199.0)
        );
        let none = Times::default().answers();
        assert_eq!((none.answered, none.p99_millis), (0, 0.0));
    }
}
