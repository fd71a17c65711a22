//! Who may pull from which registry: docker's configuration file, as users have it and as Secrets hold it.
//!
//! A key of `auths` names a registry (`ghcr.io`, `localhost:5000`, `*.example.com`), perhaps with the beginning of a path. Several
//! may fit one image; they are tried with the closest first. Programs that keep passwords (`credHelpers`, `credsStore`) are run
//! for the user's own file only: what a Secret says never starts a program.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The names under which the same large registry is known.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// How long a program that keeps passwords may take: some ask a person.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

/// The larger of what a Secret can hold.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Credentials cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{origin} holds no docker configuration: {why}")]
pub struct CredentialsError {
    origin: String,
    why: String,
}

/// Credentials for registries, in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    entries: Vec<Entry>,
    helper: Option<Helper>,
}

#[derive(Clone)]
struct Entry {
    host: String,
    path: String,
    auth: RegistryAuth,
    origin: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} of {}", self.host, self.path, self.origin)
    }
}

/// Programs that keep passwords, by registry.
#[derive(Clone, Debug, Default)]
struct Helper {
    by_registry: BTreeMap<String, String>,
    other: Option<String>,
}

/// Credentials that fit an image.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) auth: RegistryAuth,
    /// Where they come from, for messages: `secret "pull"`.
    pub(crate) origin: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ConfigFile {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    registrytoken: String,
}

impl Auth {
    fn read(&self) -> Option<RegistryAuth> {
        if !self.registrytoken.is_empty() {
            return Some(RegistryAuth::Bearer(self.registrytoken.clone()));
        }
        if !self.username.is_empty() {
            return Some(RegistryAuth::Basic(self.username.clone(), self.password.clone()));
        }
        let text = String::from_utf8(STANDARD.decode(self.auth.trim()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(RegistryAuth::Basic(
            user.to_owned(),
            password.trim_end_matches('\0').to_owned(),
        ))
    }
}

impl Keyring {
    /// Adds what a file or a Secret of type `kubernetes.io/dockerconfigjson` holds; `origin` names it in messages.
    ///
    /// # Errors
    /// When it is no such configuration.
    pub fn add_docker_config(&mut self, json: &[u8], origin: &str) -> Result<(), CredentialsError> {
        let file: ConfigFile = parse(json, origin)?;
        self.add(&file.auths, origin);
        Ok(())
    }

    /// Adds what a Secret of the older type `kubernetes.io/dockercfg` holds: the registries alone.
    ///
    /// # Errors
    /// When it is no such configuration.
    pub fn add_docker_cfg(&mut self, json: &[u8], origin: &str) -> Result<(), CredentialsError> {
        let auths: BTreeMap<String, Auth> = parse(json, origin)?;
        self.add(&auths, origin);
        Ok(())
    }

    /// Adds the user's own: `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`. A file that is not there holds nothing; one
    /// that cannot be read is told in the log.
    #[must_use]
    pub fn with_users_own(mut self) -> Self {
        let Some(path) = users_file() else { return self };
        let origin = path.display().to_string();
        let short = std::fs::metadata(&path).is_ok_and(|file| file.len() <= MAX_CONFIG_BYTES);
        let Some(json) = std::fs::read(&path).ok().filter(|_| short) else {
            return self;
        };
        match parse::<ConfigFile>(&json, &origin) {
            Ok(file) => {
                self.add(&file.auths, &origin);
                self.helper = Some(Helper {
                    by_registry: file.cred_helpers,
                    other: file.creds_store,
                });
            }
            Err(error) => tracing::warn!(%error, "logins to registries are not used"),
        }
        self
    }

    fn add(&mut self, auths: &BTreeMap<String, Auth>, origin: &str) {
        let mut entries: Vec<Entry> = Vec::new();
        for (key, auth) in auths {
            let Some(auth) = auth.read() else { continue };
            let (host, path) = split_key(key);
            entries.push(Entry {
                host,
                path,
                auth,
                origin: origin.to_owned(),
            });
        }
        // The closest first: a longer path, then a host without a wildcard.
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.path.len()), entry.host.contains('*')));
        self.entries.append(&mut entries);
    }

    /// What fits an image, in the order in which it should be tried. Nobody, where nothing fits.
    pub(crate) async fn candidates(&self, registry: &str, path: &str) -> Vec<Candidate> {
        let host = canonical(registry);
        let fits = |entry: &&Entry| host_fits(&entry.host, host) && path_fits(&entry.path, path);
        let mut found: Vec<Candidate> = self
            .entries
            .iter()
            .filter(fits)
            .map(|entry| Candidate {
                auth: entry.auth.clone(),
                origin: entry.origin.clone(),
            })
            .collect();
        if found.is_empty()
            && let Some(helper) = &self.helper
        {
            found.extend(helper.ask(registry).await);
        }
        if found.is_empty() {
            found.push(Candidate {
                auth: RegistryAuth::Anonymous,
                origin: String::new(),
            });
        }
        found
    }
}

impl Helper {
    async fn ask(&self, registry: &str) -> Option<Candidate> {
        let own = self.by_registry.get(registry);
        let name = own.or(self.other.as_ref()).filter(|name| !name.is_empty())?;
        let server = match canonical(registry) == DOCKER_HUB_HOST {
            true => "https://index.docker.io/v1/",
            false => registry,
        };
        let program = format!("docker-credential-{name}");
        match tokio::time::timeout(HELPER_TIMEOUT, run_helper(&program, server)).await {
            Ok(Ok(auth)) => auth.map(|auth| Candidate { auth, origin: program }),
            Ok(Err(error)) => {
                tracing::warn!(program, %error, "a program that keeps passwords cannot be used");
                None
            }
            Err(_) => {
                tracing::warn!(program, "a program that keeps passwords does not answer");
                None
            }
        }
    }
}

/// The protocol of these programs: the server's name in, a document out; a failure means that they know nothing.
async fn run_helper(program: &str, server: &str) -> std::io::Result<Option<RegistryAuth>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(server.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    let answer: Option<Answer> = serde_json::from_slice(&output.stdout)
        .ok()
        .filter(|_| output.status.success());
    // `<token>` means that the secret is exchanged for a token first, which registries do not have in common.
    Ok(answer
        .filter(|answer| answer.username != "<token>")
        .map(|answer| RegistryAuth::Basic(answer.username, answer.secret)))
}

const DOCKER_HUB_HOST: &str = "index.docker.io";

fn parse<T: serde::de::DeserializeOwned>(json: &[u8], origin: &str) -> Result<T, CredentialsError> {
    // The position tells enough; the text around it may be a password.
    serde_json::from_slice(json).map_err(|error| CredentialsError {
        origin: origin.to_owned(),
        why: format!(
            "it is not understood at line {}, column {}",
            error.line(),
            error.column()
        ),
    })
}

fn users_file() -> Option<PathBuf> {
    let dir = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE"));
    let dir = dir.or_else(|| home().map(|home| PathBuf::from(home).join(".docker")))?;
    Some(dir.join("config.json"))
}

/// Host and path of a key, which may be an address: `https://index.docker.io/v1/`.
fn split_key(key: &str) -> (String, String) {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_matches('/');
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    (canonical(host).to_owned(), path.to_owned())
}

fn canonical(host: &str) -> &str {
    if DOCKER_HUB.contains(&host) {
        DOCKER_HUB_HOST
    } else {
        host
    }
}

/// A `*` stands for one label of a name.
fn host_fits(pattern: &str, host: &str) -> bool {
    let (pattern, pattern_port) = split_port(pattern);
    let (host, port) = split_port(host);
    let mut patterns = pattern.split('.');
    let mut labels = host.split('.');
    let same = loop {
        match (patterns.next(), labels.next()) {
            (None, None) => break true,
            (Some(pattern), Some(label)) if label_fits(pattern, label) => {}
            _ => break false,
        }
    };
    same && port == pattern_port
}

fn label_fits(pattern: &str, label: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern.eq_ignore_ascii_case(label),
        Some((start, end)) => {
            label.len() >= start.len() + end.len() && label.starts_with(start) && label.ends_with(end)
        }
    }
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, Some(port)),
        _ => (host, None),
    }
}

fn path_fits(prefix: &str, path: &str) -> bool {
    prefix.is_empty()
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn users(keyring: &Keyring, registry: &str, path: &str) -> Vec<String> {
        let name = |candidate: Candidate| match candidate.auth {
            RegistryAuth::Basic(user, password) => format!("{user}/{password}"),
            RegistryAuth::Bearer(token) => token,
            RegistryAuth::Anonymous => "nobody".to_owned(),
        };
        let found = keyring.candidates(registry, path).await;
        found.into_iter().map(name).collect()
    }

    #[tokio::test]
    async fn the_closest_entry_is_tried_first() {
        let mut keyring = Keyring::default();
        let json = format!(
            r#"{{"auths": {{
                "https://index.docker.io/v1/": {{"auth": "{}"}},
                "localhost:5000": {{"username": "a", "password": "x"}},
                "localhost:5000/team": {{"username": "b", "password": "y"}},
                "*.example.com": {{"registrytoken": "t"}},
                "broken": {{"auth": "no base64"}}}},
                "credsStore": "never-run"}}"#,
            STANDARD.encode("hub:with:colon")
        );
        keyring.add_docker_config(json.as_bytes(), "secret").unwrap();
        assert_eq!(users(&keyring, "docker.io", "library/x").await, ["hub/with:colon"]);
        assert_eq!(users(&keyring, "localhost:5000", "team/app").await, ["b/y", "a/x"]);
        assert_eq!(users(&keyring, "localhost:5000", "teammate/app").await, ["a/x"]);
        assert_eq!(users(&keyring, "localhost:5001", "team/app").await, ["nobody"]);
        assert_eq!(users(&keyring, "eu.example.com", "x").await, ["t"]);
        assert_eq!(users(&keyring, "a.eu.example.com", "x").await, ["nobody"]);
        assert_eq!(users(&keyring, "broken", "x").await, ["nobody"]);
    }

    #[test]
    fn what_is_no_configuration_is_refused_without_showing_it() {
        let mut keyring = Keyring::default();
        let error = keyring
            .add_docker_config(br#"{"auths": {"a": "hunter2"}}"#, "secret \"pull\"")
            .unwrap_err()
            .to_string();
        assert!(error.contains("secret \"pull\"") && error.contains("line 1"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        assert!(
            keyring
                .add_docker_cfg(br#"{"a": {"username": "u", "password": "p"}}"#, "s")
                .is_ok()
        );
    }
}
