//! What a node keeps of its cluster, in `node/` of its data directory: how it reaches the API and as whom, and what it shows
//! to who comes to it. A file is replaced whole, so that a certificate never stands beside the key of another.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, bail};
use coracle_link::{Credentials, Purpose};
use kube::Client;

use crate::{
    data_dir::DataDir,
    join,
    kubeconfig::{self, Access},
    say::say,
};

/// The serving certificate with its key, in the node's directory.
const SERVING: &str = "serving.pem";
/// The first line of a private key.
const KEY_BEGINS: &str = "-----BEGIN PRIVATE KEY-----";

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
        let kept = Self { dir, node, access };
        kept.keep_client()?;
        Ok(kept)
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
        is_over(&self.access.cert_pem)
    }

    /// The serving certificate: the one that was kept, or another if there is none or it is over. One that is good is taken
    /// though it should be renewed: the node works meanwhile.
    ///
    /// # Errors
    /// When the cluster refuses one.
    pub async fn serving(&self, client: &Client) -> anyhow::Result<Pair> {
        let kept = read_pair(&self.dir.join(SERVING));
        if let Some(kept) = kept.filter(|(certificate, _)| !is_over(certificate)) {
            return Ok(kept);
        }
        let made = join::certificate(client, &self.node, Purpose::Serving, None).await?;
        self.keep_serving(&made)?;
        Ok(made)
    }

    /// Keeps the client certificate as it is now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_client(&self) -> anyhow::Result<()> {
        kubeconfig::write(&self.dir.join("kubeconfig"), &self.access)
    }

    /// Keeps a serving certificate.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_serving(&self, serving: &Pair) -> anyhow::Result<()> {
        write_pair(&self.dir.join(SERVING), serving)
    }

    /// What the node proves itself with.
    #[must_use]
    pub fn credentials(&self, serving: Pair) -> Credentials {
        Credentials {
            authority: self.access.ca_pem.clone(),
            client: (self.access.cert_pem.clone(), self.access.key_pem.clone()),
            serving,
        }
    }
}

/// A certificate and its private key, both PEM.
pub type Pair = (String, String);

/// Both in one file, so that whoever reads it has two that belong together.
fn read_pair(path: &Path) -> Option<Pair> {
    let text = fs::read_to_string(path).ok()?;
    let at = text.find(KEY_BEGINS)?;
    let (certificate, key) = text.split_at(at);
    Some((certificate.to_owned(), key.to_owned()))
}

fn write_pair(path: &Path, (certificate, key): &Pair) -> anyhow::Result<()> {
    kubeconfig::write_private(path, &format!("{}\n{key}", certificate.trim_end()))
}

fn is_over(pem: &str) -> bool {
    coracle_link::validity(pem).is_none_or(|validity| validity.until <= SystemTime::now())
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
    use coracle_link::Keys;

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
        kept.keep_serving(&serving).unwrap();
        let again = Membership::load(&data).unwrap().unwrap();
        assert_eq!(
            (again.node.as_str(), again.access.server.as_str()),
            ("worker", "https://192.168.7.1:6443")
        );
        assert_eq!(again.access.key_pem, kept.access.key_pem);
        assert!(!again.is_over());
        let found = read_pair(&again.dir.join(SERVING)).unwrap();
        assert_eq!(found, serving);
        Keys::new(&again.credentials(found)).unwrap();
        #[cfg(unix)]
        for file in ["kubeconfig", SERVING] {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(again.dir.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        Membership::forget(&data).unwrap();
        assert!(Membership::load(&data).unwrap().is_none());
    }
}
