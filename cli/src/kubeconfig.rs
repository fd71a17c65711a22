//! Kubeconfig files: the one in the data directory, and the context `coracle` in the user's own.
//!
//! The user's file belongs to the user: every entry that is not ours survives a merge, and a file that cannot be read as a kubeconfig is left alone.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_yaml::{Mapping, Value};

/// Name of the cluster, the user and the context that we write.
pub const NAME: &str = "coracle";

/// What a client needs to reach a cluster as its administrator.
#[derive(Debug, Clone)]
pub struct Access {
    /// Base URL of the API server, such as `https://127.0.0.1:6443`.
    pub server: String,
    /// Certificate of the authority that signed the server's certificate, PEM.
    pub ca_pem: String,
    /// The client's certificate, PEM.
    pub cert_pem: String,
    /// The client's private key, PEM.
    pub key_pem: String,
}

impl Access {
    /// A whole kubeconfig with one cluster, one user and one context.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut config = Mapping::new();
        config.insert("apiVersion".into(), "v1".into());
        config.insert("kind".into(), "Config".into());
        config.insert("clusters".into(), vec![self.cluster()].into());
        config.insert("users".into(), vec![self.user()].into());
        config.insert("contexts".into(), vec![context()].into());
        config.insert("current-context".into(), NAME.into());
        Value::Mapping(config)
    }

    fn cluster(&self) -> Value {
        named(
            "cluster",
            &[
                ("server", self.server.clone()),
                ("certificate-authority-data", base64(&self.ca_pem)),
            ],
        )
    }

    fn user(&self) -> Value {
        named(
            "user",
            &[
                ("client-certificate-data", base64(&self.cert_pem)),
                ("client-key-data", base64(&self.key_pem)),
            ],
        )
    }
}

fn context() -> Value {
    named("context", &[("cluster", NAME.to_owned()), ("user", NAME.to_owned())])
}

fn named(key: &str, fields: &[(&str, String)]) -> Value {
    let inner: Mapping = fields
        .iter()
        .map(|(name, value)| (Value::from(*name), Value::from(value.as_str())))
        .collect();
    let mut entry = Mapping::new();
    entry.insert("name".into(), NAME.into());
    entry.insert(key.into(), Value::Mapping(inner));
    Value::Mapping(entry)
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Writes the cluster's own kubeconfig, readable by its owner only.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, access: &Access) -> anyhow::Result<()> {
    replace(path, &access.to_value())
}

/// Reads a kubeconfig that [`write`] has written.
///
/// # Errors
/// When it is none.
pub fn read(path: &Path) -> anyhow::Result<Access> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value: Value = serde_yaml::from_str(&text).with_context(|| format!("{} is not YAML", path.display()))?;
    let entry = |list: &str, kind: &str, field: &str| {
        let text = value.get(list)?.get(0)?.get(kind)?.get(field)?.as_str()?;
        Some(text.to_owned())
    };
    let pem = |list: &str, kind: &str, field: &str| {
        use base64::Engine as _;
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(entry(list, kind, field)?)
            .ok()?;
        String::from_utf8(decoded).ok()
    };
    let access = || {
        Some(Access {
            server: entry("clusters", "cluster", "server")?,
            ca_pem: pem("clusters", "cluster", "certificate-authority-data")?,
            cert_pem: pem("users", "user", "client-certificate-data")?,
            key_pem: pem("users", "user", "client-key-data")?,
        })
    };
    access().with_context(|| format!("{} is no kubeconfig that this program has written", path.display()))
}

/// Adds (or renews) the context `coracle` in the user's kubeconfig and makes it the current one. Returns the file.
///
/// # Errors
/// When the file exists and is no kubeconfig, or cannot be written.
pub fn merge_into_users(access: &Access) -> anyhow::Result<PathBuf> {
    let path = users_file()?;
    merge_into(&path, access)?;
    Ok(path)
}

fn merge_into(path: &Path, access: &Access) -> anyhow::Result<()> {
    let ours = access.to_value();
    let existing = match fs::read_to_string(path) {
        Ok(text) => serde_yaml::from_str(&text).with_context(|| {
            format!(
                "{} is not YAML: it was left alone; mend it or start with --no-merge",
                path.display()
            )
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Value::Null,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let merged = match existing {
        Value::Null => ours,
        Value::Mapping(theirs) => merged(theirs, &ours),
        _ => bail!(
            "{} is no kubeconfig: it was left alone; mend it or start with --no-merge",
            path.display()
        ),
    };
    replace(path, &merged)
}

/// The user's file with our three entries put in place of older ones of the same name.
fn merged(mut theirs: Mapping, ours: &Value) -> Value {
    for list in ["clusters", "users", "contexts"] {
        let mut entries = match theirs.get(list) {
            Some(Value::Sequence(entries)) => entries.clone(),
            _ => Vec::new(),
        };
        entries.retain(|entry| entry.get("name").and_then(Value::as_str) != Some(NAME));
        if let Some(Value::Sequence(added)) = ours.get(list) {
            entries.extend(added.iter().cloned());
        }
        theirs.insert(list.into(), Value::Sequence(entries));
    }
    theirs.insert("current-context".into(), NAME.into());
    for (key, value) in [("apiVersion", "v1"), ("kind", "Config")] {
        if !theirs.contains_key(key) {
            theirs.insert(key.into(), value.into());
        }
    }
    Value::Mapping(theirs)
}

/// The first file of `$KUBECONFIG`, or `~/.kube/config`: the one kubectl writes to.
fn users_file() -> anyhow::Result<PathBuf> {
    if let Some(list) = std::env::var_os("KUBECONFIG")
        && let Some(first) = std::env::split_paths(&list).find(|path| !path.as_os_str().is_empty())
    {
        return Ok(first);
    }
    let home =
        etcetera::home_dir().context("your home directory is unknown: set KUBECONFIG or start with --no-merge")?;
    Ok(home.join(".kube").join("config"))
}

fn replace(path: &Path, value: &Value) -> anyhow::Result<()> {
    write_private(path, &serde_yaml::to_string(value)?)
}

/// Replaces a file whole, so that a reader sees the old one or the new one; private, for it holds a key.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let parent = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    // A temporary file is created with mode 0600.
    let mut file =
        tempfile::NamedTempFile::new_in(parent).with_context(|| format!("cannot write into {}", parent.display()))?;
    file.write_all(text.as_bytes())?;
    file.persist(&target)
        .with_context(|| format!("cannot write {}", target.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(server: &str) -> Access {
        Access {
            server: server.to_owned(),
            ca_pem: "ca".to_owned(),
            cert_pem: "cert".to_owned(),
            key_pem: "key".to_owned(),
        }
    }

    #[test]
    fn a_merge_keeps_what_is_not_ours_and_renews_what_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(
            &path,
            "apiVersion: v1\nkind: Config\ncurrent-context: work\npreferences: {colors: true}\nclusters:\n- name: work\n  cluster: {server: https://work}\nusers: []\n",
        )
        .unwrap();
        merge_into(&path, &access("https://127.0.0.1:1")).unwrap();
        merge_into(&path, &access("https://127.0.0.1:2")).unwrap();
        let merged: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(merged["clusters"].as_sequence().unwrap().len(), 2);
        assert_eq!(merged["clusters"][0]["name"], "work");
        assert_eq!(merged["clusters"][1]["cluster"]["server"], "https://127.0.0.1:2");
        assert_eq!(merged["preferences"]["colors"], Value::Bool(true));
        assert_eq!(merged["current-context"], NAME);
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(&path, "- a\n- list\n").unwrap();
        assert!(merge_into(&path, &access("https://127.0.0.1:1")).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "- a\n- list\n");
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        write(&path, &access("https://127.0.0.1:1")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
