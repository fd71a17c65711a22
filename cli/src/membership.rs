//! What a node keeps of its cluster, in `node/` of its data directory: how it reaches the API and as whom, and what it shows
//! to who comes to it. Both certificates are renewed before their end, while the node runs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use coracle_link::{Credentials, Keys, Purpose};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio_util::sync::CancellationToken;

use crate::{
    data_dir::DataDir,
    join,
    kubeconfig::{self, Access},
    say::say,
};

/// How often a certificate's age is looked at: a machine that slept does not wait out a timer that slept too.
const LOOK: Duration = Duration::from_secs(3600);
/// The pause after a renewal that failed.
const RETRY: Duration = Duration::from_secs(60);

/// A node's part in a cluster.
pub struct Membership {
    dir: PathBuf,
    /// The node's name.
    pub node: String,
    /// How it reaches the API.
    pub access: Access,
}

impl Membership {
    /// What was kept; none where nothing was.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(data: &DataDir) -> anyhow::Result<Option<Self>> {
        let dir = data.join("node");
        let path = dir.join("kubeconfig");
        if !path.exists() {
            return Ok(None);
        }
        let access = kubeconfig::read(&path)?;
        let node = coracle_link::node_of(&access.cert_pem);
        let node = node.with_context(|| format!("{} is not a node's: run `coracle node reset`", path.display()))?;
        Ok(Some(Self { dir, node, access }))
    }

    /// Keeps what joining brought.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(data: &DataDir, node: String, access: Access) -> anyhow::Result<Self> {
        let dir = data.join("node");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        kubeconfig::write(&dir.join("kubeconfig"), &access)?;
        Ok(Self { dir, node, access })
    }

    /// Forgets it.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn forget(data: &DataDir) -> anyhow::Result<()> {
        for part in ["node", "pods", "logs"] {
            let path = data.join(part);
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the client certificate is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let validity = coracle_link::validity(&self.access.cert_pem);
        validity.is_none_or(|validity| validity.until <= SystemTime::now())
    }

    /// The serving certificate: the one that was kept, or another if there is none or it should be renewed.
    ///
    /// # Errors
    /// When the cluster refuses one.
    pub async fn serving(&self, client: &Client) -> anyhow::Result<(String, String)> {
        let kept = read_pair(&self.dir, "serving");
        if let Some(kept) = kept.filter(|(certificate, _)| !is_due(certificate)) {
            return Ok(kept);
        }
        let made = join::certificate(client, &self.node, Purpose::Serving).await?;
        write_pair(&self.dir, "serving", &made)?;
        Ok(made)
    }

    /// What the node proves itself with.
    #[must_use]
    pub fn credentials(&self, serving: (String, String)) -> Credentials {
        Credentials {
            authority: self.access.ca_pem.clone(),
            client: (self.access.cert_pem.clone(), self.access.key_pem.clone()),
            serving,
        }
    }
}

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

/// Renews the certificates when they are due, until the shutdown.
pub async fn renew(mut membership: Membership, current: Renewable, keys: Arc<Keys>, shutdown: CancellationToken) {
    let mut pause = Duration::ZERO;
    while shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        pause = match renew_once(&mut membership, &current, &keys).await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!("a certificate of this node cannot be renewed: {error:#}");
                RETRY
            }
        };
    }
}

/// Renews what is due, and says when to look again.
async fn renew_once(membership: &mut Membership, current: &Renewable, keys: &Keys) -> anyhow::Result<Duration> {
    let client_due = is_due(&membership.access.cert_pem);
    if client_due {
        let made = join::certificate(&current.client(), &membership.node, Purpose::Client).await?;
        let access = Access {
            cert_pem: made.0,
            key_pem: made.1,
            ..membership.access.clone()
        };
        kubeconfig::write(&membership.dir.join("kubeconfig"), &access)?;
        current.0.store(Arc::new(client(&access).await?));
        membership.access = access;
    }
    let before = read_pair(&membership.dir, "serving");
    let serving = membership.serving(&current.client()).await?;
    if client_due || before.as_ref() != Some(&serving) {
        keys.replace(&membership.credentials(serving.clone()))?;
    }
    let next = [&membership.access.cert_pem, &serving.0]
        .into_iter()
        .map(|pem| until_due(pem));
    Ok(next.min().unwrap_or(LOOK).min(LOOK))
}

fn is_due(pem: &str) -> bool {
    until_due(pem).is_zero()
}

/// How long until a certificate should be renewed.
fn until_due(pem: &str) -> Duration {
    let due = coracle_link::validity(pem).map(|validity| validity.renew_at());
    due.and_then(|due| due.duration_since(SystemTime::now()).ok())
        .unwrap_or_default()
}

fn read_pair(dir: &Path, name: &str) -> Option<(String, String)> {
    let read = |ending: &str| fs::read_to_string(dir.join(format!("{name}.{ending}"))).ok();
    Some((read("crt")?, read("key")?))
}

/// The key is written first: a certificate without its key is nobody's.
fn write_pair(dir: &Path, name: &str, (certificate, key): &(String, String)) -> anyhow::Result<()> {
    for (ending, text) in [("key", key), ("crt", certificate)] {
        kubeconfig::write_private(&dir.join(format!("{name}.{ending}")), text)?;
    }
    Ok(())
}

/// The part of this machine in a cluster: the one that was kept, or one that it joins now.
///
/// # Errors
/// When it has not joined and is not told how, or joining fails.
pub async fn enter(data: &DataDir, args: &crate::args::NodeRun) -> anyhow::Result<Membership> {
    let kept = Membership::load(data)?;
    let wanted = args.join.as_deref().map(|server| server.trim_end_matches('/'));
    if let Some(kept) = kept {
        let server = &kept.access.server;
        if let Some(wanted) = wanted.filter(|wanted| wanted != server) {
            bail!(
                "this machine is a node of {server}: `coracle node reset` makes it forget that before it joins {wanted}"
            );
        }
        if let Some(name) = args.node_name.as_deref().filter(|name| *name != kept.node) {
            bail!(
                "this machine is the node {:?}: `coracle node reset` makes it forget that before it becomes {name:?}",
                kept.node
            );
        }
        if !kept.is_over() {
            return Ok(kept);
        }
        if args.token.is_none() {
            bail!(
                "this node's certificate is over, because it was away for too long (or the clock of this machine is wrong): \
                 join again with --join {server} --token ..., which `coracle token create --print-join-command` prints"
            );
        }
    }
    let (Some(server), Some(token)) = (wanted, args.token.as_deref()) else {
        bail!(
            "this machine is no node yet: run the command that `coracle token create --print-join-command` prints where the \
             cluster is, with --join and --token"
        );
    };
    if args.ca_hash.is_empty() && !args.unsafe_skip_ca_verification {
        bail!(
            "--ca-hash is needed, so that nobody else can pass for the cluster: `coracle token create --print-join-command` \
             prints it; --unsafe-skip-ca-verification joins without"
        );
    }
    let node = node_name(args)?;
    let access = join::join(&join::Wanted {
        server,
        token,
        pins: &args.ca_hash,
        node: &node,
    })
    .await?;
    say(format_args!("joined      {server}"));
    Membership::keep(data, node, access)
}

/// The name of the node: a DNS name, as every node's.
fn node_name(args: &crate::args::NodeRun) -> anyhow::Result<String> {
    let given = args.node_name.clone();
    let name = given.unwrap_or_else(|| crate::apart::host().to_ascii_lowercase().replace('_', "-"));
    let good = |label: &str| {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(known)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // With the domain of serving certificates it is still a DNS name.
    if name.len() > 200 || !name.split('.').all(good) {
        bail!("{name:?} is no name for a node: lower case letters, digits, - and . only; choose one with --node-name");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_is_private() {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(root.path()).unwrap();
        assert!(Membership::load(&data).unwrap().is_none());
        let pki = coracle_server::Pki::ephemeral(&[]).unwrap();
        let [(cert_pem, key_pem), serving] = pki.issue_node("worker").unwrap();
        let access = Access {
            server: "https://192.168.7.1:6443".to_owned(),
            ca_pem: pki.ca_pem().to_owned(),
            cert_pem,
            key_pem,
        };
        let kept = Membership::keep(&data, "worker".to_owned(), access).unwrap();
        Keys::new(&kept.credentials(serving.clone())).unwrap();
        write_pair(&kept.dir, "serving", &serving).unwrap();
        let again = Membership::load(&data).unwrap().unwrap();
        assert_eq!(
            (again.node.as_str(), again.access.server.as_str()),
            ("worker", "https://192.168.7.1:6443")
        );
        assert_eq!(again.access.key_pem, kept.access.key_pem);
        assert!(!again.is_over() && !is_due(&again.access.cert_pem));
        assert_eq!(read_pair(&again.dir, "serving"), Some(serving));
        #[cfg(unix)]
        for file in ["kubeconfig", "serving.key"] {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(again.dir.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        Membership::forget(&data).unwrap();
        assert!(Membership::load(&data).unwrap().is_none());
    }
}
