//! The pods of a document at a URL: `coracle up --static-pod-url URL`.
//!
//! The document is asked for again and again. What cannot be had or read is said in the log, once for each reason, and the last
//! good document stays what runs: a server that is away ends nothing. An empty document is no answer; a list without pods is.

use std::time::Duration;

use anyhow::{Context, bail};
use http::{HeaderMap, HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::pods_of;

/// How often a document is asked for where nothing else is said: the kubelet's period.
pub const INTERVAL: Duration = Duration::from_secs(20);

/// How long one answer may take: the kubelet's patience.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest document: what the API takes as one object is a tenth of that.
const DOCUMENT_BYTES: usize = 16 << 20;

/// Says where the pod comes from.
const SOURCE: &str = "kubernetes.io/config.source";

/// Where the document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its address, `http` or `https`.
    pub url: String,
    /// What is sent with each request.
    pub headers: HeaderMap,
    /// The pause between two.
    pub interval: Duration,
}

/// Reads a header as one types it, `Name: value`.
///
/// # Errors
/// When it is none.
pub fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("{text:?} is no header; write it as 'Name: value'");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
    let mut value = HeaderValue::try_from(value.trim()).map_err(|_| wrong())?;
    // It may be a password.
    value.set_sensitive(true);
    Ok((name, value))
}

/// The pods of the document, now and after each change until `stop`. None before the first answer.
///
/// # Errors
/// When the address is none that can be asked.
pub fn follow(source: Source, stop: CancellationToken) -> anyhow::Result<watch::Receiver<Vec<Pod>>> {
    // The one that the rest of the program uses; another that is there already does as well.
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .default_headers(source.headers)
        .build()
        .context("cannot ask for static pods")?;
    let url: reqwest::Url = source
        .url
        .parse()
        .with_context(|| format!("{:?} is no URL for static pods", source.url))?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("static pods are had by http or https, not by {:?}", url.scheme());
    }
    let (sender, receiver) = watch::channel(Vec::new());
    let mut ticks = tokio::time::interval(source.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::spawn(async move {
        let mut said = String::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match ask(&client, &url).await {
                Ok(pods) => {
                    said.clear();
                    sender.send_if_modified(|before| {
                        let differs = *before != pods;
                        *before = pods;
                        differs
                    });
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    if why != said {
                        tracing::error!(%url, "static pods stay as they are: {why}");
                        said = why;
                    }
                }
            }
        }
    });
    Ok(receiver)
}

async fn ask(client: &reqwest::Client, url: &reqwest::Url) -> anyhow::Result<Vec<Pod>> {
    let mut answer = client.get(url.clone()).send().await?.error_for_status()?;
    let mut document = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        if document.len() + piece.len() > DOCUMENT_BYTES {
            bail!("the document has more than {} MiB", DOCUMENT_BYTES >> 20);
        }
        document.extend_from_slice(&piece);
    }
    let text = std::str::from_utf8(&document).context("the document is no text")?;
    if text.trim().is_empty() {
        bail!("the document is empty");
    }
    let mut pods = pods_of(text)?;
    for pod in &mut pods {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(SOURCE.to_owned(), "http".to_owned());
    }
    Ok(pods)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::Arc;

    use http_body_util::Full;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use parking_lot::Mutex;
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    /// A server of one document: its status and text, and how often it was asked.
    #[derive(Clone)]
    struct Document {
        now: Arc<Mutex<(u16, String)>>,
        asked: Arc<Semaphore>,
        url: String,
    }

    impl Document {
        async fn serve() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let document = Self {
                now: Arc::default(),
                asked: Arc::new(Semaphore::new(0)),
                url: format!("http://{}/pods", listener.local_addr().unwrap()),
            };
            let served = document.clone();
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let served = served.clone();
                    tokio::spawn(async move {
                        let answer = |request: Request<hyper::body::Incoming>| {
                            assert_eq!(request.headers()["x-key"], "secret");
                            let (status, text) = served.now.lock().clone();
                            served.asked.add_permits(1);
                            let answer = Response::builder()
                                .status(status)
                                .body(Full::<bytes::Bytes>::from(text))
                                .unwrap();
                            async { Ok::<_, Infallible>(answer) }
                        };
                        let connection =
                            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
                        connection.await.ok();
                    });
                }
            });
            document
        }

        /// Shows another document, and waits until it was asked for twice: the first answer has been read by then.
        async fn shows(&self, status: u16, text: &str) {
            *self.now.lock() = (status, text.to_owned());
            self.asked.forget_permits(usize::MAX);
            self.asked.acquire_many(3).await.unwrap().forget();
        }
    }

    #[tokio::test]
    async fn the_last_good_document_is_what_runs() {
        let document = Document::serve().await;
        let pod = |image: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{containers: [{{name: c, image: {image}}}]}}\n"
            )
        };
        *document.now.lock() = (200, pod("hello"));
        let stop = CancellationToken::new();
        let source = Source {
            url: document.url.clone(),
            headers: HeaderMap::from_iter([header("X-Key: secret").unwrap()]),
            interval: Duration::from_millis(5),
        };
        let mut pods = follow(source, stop.clone()).unwrap();
        let images = |pods: &[Pod]| -> Vec<String> {
            let containers = pods
                .iter()
                .flat_map(|pod| pod.spec.as_ref().unwrap().containers.clone());
            containers.filter_map(|container| container.image).collect()
        };
        pods.wait_for(|pods| images(pods) == ["hello"]).await.unwrap();
        assert_eq!(pods.borrow()[0].metadata.annotations.as_ref().unwrap()[SOURCE], "http");
        for (status, text) in [(500, pod("worker")), (200, String::new()), (200, "kind: [".to_owned())] {
            document.shows(status, &text).await;
            assert_eq!(images(&pods.borrow()), ["hello"], "{status} {text}");
        }
        document.shows(200, &pod("worker")).await;
        pods.wait_for(|pods| images(pods) == ["worker"]).await.unwrap();
        document.shows(200, "apiVersion: v1\nkind: PodList\nitems: []\n").await;
        pods.wait_for(|pods| pods.is_empty()).await.unwrap();
        stop.cancel();
    }

    #[test]
    fn what_cannot_be_asked_is_said() {
        assert!(header("no header").unwrap_err().contains("Name: value"));
        assert!(header("bad name: x").is_err());
    }

    #[tokio::test]
    async fn a_url_is_http() {
        for url in ["file:///etc/pods", "nothing"] {
            let source = Source {
                url: url.to_owned(),
                headers: HeaderMap::new(),
                interval: INTERVAL,
            };
            assert!(follow(source, CancellationToken::new()).is_err(), "{url}");
        }
    }
}
