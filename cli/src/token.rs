//! `coracle token`: the secrets by which other machines join, and what they need to know besides.
//!
//! Everything that joining needs is made here, through the API: a cluster that never has another node tells strangers nothing.
//! What a stranger may read is the ConfigMap `kube-public/cluster-info` of kubeadm, signed with each token by the controllers.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::await_condition,
};
use serde_json::json;

use crate::{
    args::{TokenAccess, TokenArgs, TokenCommand, TokenCreate},
    image, manifest,
    say::say,
};

/// Characters of tokens.
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID_CHARACTERS: usize = 6;
const SECRET_CHARACTERS: usize = 16;
/// How the Secrets of tokens are called; the token's id follows.
const PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";
/// How long the controllers may take to sign. They do it when they see the token; without them nobody could join.
const SIGNED: Duration = Duration::from_secs(10);

/// What everybody needs who is to join: who may read what the cluster tells strangers, which rights tokens give, and what
/// nodes in other processes may read for the pod network beyond what concerns their own pods.
const JOINING: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: "kubeadm:bootstrap-signer-clusterinfo", namespace: kube-public}
rules: [{apiGroups: [""], resources: [configmaps], resourceNames: [cluster-info], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: "kubeadm:bootstrap-signer-clusterinfo", namespace: kube-public}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: "kubeadm:bootstrap-signer-clusterinfo"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:anonymous"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "coracle:nodes-ask-for-certificates"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-bootstrapper"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "coracle:nodes-get-certificates"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "coracle:joined-nodes"}
rules:
- {apiGroups: ["certificates.k8s.io"], resources: ["certificatesigningrequests/selfnodeclient", "certificatesigningrequests/selfnodeserving"], verbs: [create]}
- {apiGroups: [""], resources: [namespaces, nodes, pods, services], verbs: [get, list, watch]}
- {apiGroups: ["discovery.k8s.io"], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: ["networking.k8s.io"], resources: [networkpolicies], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "coracle:joined-nodes"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "coracle:joined-nodes"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes"}]
"#;

/// Does what the command says.
///
/// # Errors
/// When the cluster cannot be reached or refuses.
pub async fn run(args: TokenArgs) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok();
    match args.command {
        TokenCommand::Create(create) => self::create(create).await,
        TokenCommand::Ls(access) => list(&cluster(&access).await?.client).await,
        TokenCommand::Rm { access, id } => remove(&cluster(&access).await?.client, &id).await,
    }
}

/// A cluster, as its administrator reaches it.
struct Reached {
    client: Client,
    server: String,
    authority: String,
}

async fn cluster(access: &TokenAccess) -> anyhow::Result<Reached> {
    let path = match &access.kubeconfig {
        Some(path) => path.clone(),
        None => image::data_path(&access.data)?.join("kubeconfig"),
    };
    let kubeconfig = read(&path)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let config = config.with_context(|| format!("cannot use the kubeconfig {}", path.display()))?;
    let roots = config.root_cert.as_deref().unwrap_or_default();
    Ok(Reached {
        server: config.cluster_url.to_string().trim_end_matches('/').to_owned(),
        authority: crate::apart::pem(roots),
        client: Client::try_from(config)?,
    })
}

fn read(path: &Path) -> anyhow::Result<Kubeconfig> {
    Kubeconfig::read_from(path).with_context(|| {
        format!(
            "cannot read {}: run this where the cluster's data directory is, or name a kubeconfig with --kubeconfig",
            path.display()
        )
    })
}

async fn create(args: TokenCreate) -> anyhow::Result<()> {
    let reached = cluster(&args.access).await?;
    if args.server.is_none() && is_loopback(&reached.server) {
        bail!(
            "other machines cannot reach {}: start the cluster with --listen ADDRESS:6443, where ADDRESS is this machine's, \
             or name the URL that they are to use with --server",
            reached.server
        );
    }
    let server = args.server.unwrap_or_else(|| reached.server.clone());
    let token = issue(&reached.client, &server, &reached.authority, args.ttl, args.description).await?;
    if args.print_join_command {
        let pin = coracle_link::authority_pin(&reached.authority).context("the kubeconfig names no authority")?;
        say(format_args!(
            "coracle node --join {server} --token {token} --ca-hash {pin}"
        ));
    } else {
        say(token);
    }
    Ok(())
}

/// Makes a token, and what joining with it needs; gives it once it can be used. It does not end where `ttl` is zero.
///
/// # Errors
/// When the cluster cannot be reached or refuses.
pub(crate) async fn issue(
    client: &Client,
    server: &str,
    authority: &str,
    ttl: SignedDuration,
    description: Option<String>,
) -> anyhow::Result<String> {
    let info = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": kubeconfig(server, authority)?},
    });
    let mut objects = manifest::parse(JOINING)?;
    objects.push(serde_json::from_value(info)?);
    manifest::apply(client, &objects).await?;
    let (id, secret) = (random(ID_CHARACTERS), random(SECRET_CHARACTERS));
    let ends = match ttl {
        ttl if ttl.is_zero() => None,
        ttl => Some(Timestamp::now().checked_add(ttl).context("--ttl is too long")?),
    };
    store(client, &id, &secret, ends, description).await?;
    signed(client, &id).await?;
    Ok(format!("{id}.{secret}"))
}

/// What strangers are told: where the API is and whom to trust, as a kubeconfig without a user.
fn kubeconfig(server: &str, authority: &str) -> anyhow::Result<String> {
    use base64::Engine as _;
    let authority = base64::engine::general_purpose::STANDARD.encode(authority);
    let cluster = json!({"server": server, "certificate-authority-data": authority});
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "clusters": [{"name": "", "cluster": cluster}],
        "contexts": [], "users": [], "current-context": "", "preferences": {},
    });
    Ok(serde_yaml::to_string(&config)?)
}

async fn store(
    client: &Client,
    id: &str,
    secret: &str,
    ends: Option<Timestamp>,
    description: Option<String>,
) -> anyhow::Result<()> {
    let mut data = json!({
        "token-id": id, "token-secret": secret,
        "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
    });
    let more = [("expiration", ends.map(whole)), ("description", description)];
    for (name, text) in more {
        if let (Some(data), Some(text)) = (data.as_object_mut(), text) {
            data.insert(name.to_owned(), text.into());
        }
    }
    let object: Secret = serde_json::from_value(json!({
        "metadata": {"name": format!("{PREFIX}{id}"), "namespace": "kube-system"},
        "type": TYPE, "stringData": data,
    }))?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let made = secrets.create(&PostParams::default(), &object).await;
    made.map(drop).context("cannot make the token")
}

/// A time in whole seconds, as Secrets of tokens have it.
fn whole(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Waits until what strangers are told is signed with the token.
async fn signed(client: &Client, id: &str) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let name = format!("jws-kubeconfig-{id}");
    let signed = move |map: Option<&ConfigMap>| {
        let data = map.and_then(|map| map.data.as_ref());
        data.is_some_and(|data| data.contains_key(&name))
    };
    match tokio::time::timeout(SIGNED, await_condition(maps, "cluster-info", signed)).await {
        Ok(waited) => waited.map(drop).context("cannot see whether the token is signed"),
        Err(_) => bail!("the token is not signed: are the cluster's controllers running?"),
    }
}

async fn list(client: &Client) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let tokens = secrets
        .list(&ListParams::default().fields(&format!("type={TYPE}")))
        .await?;
    say(format_args!("{:<8} {:<22} DESCRIPTION", "TOKEN", "EXPIRES"));
    for token in tokens {
        let entry = |name: &str| {
            let data = token.data.as_ref().and_then(|data| data.get(name));
            data.map(|text| String::from_utf8_lossy(&text.0).into_owned())
        };
        let id = entry("token-id").unwrap_or_else(|| token.name_any());
        let ends = entry("expiration").unwrap_or_else(|| "never".to_owned());
        say(format_args!(
            "{id:<8} {ends:<22} {}",
            entry("description").unwrap_or_default()
        ));
    }
    Ok(())
}

async fn remove(client: &Client, id: &str) -> anyhow::Result<()> {
    // A whole token is as good as its id.
    let id = id.split_once('.').map_or(id, |(id, _)| id);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let removed = secrets.delete(&format!("{PREFIX}{id}"), &DeleteParams::default()).await;
    removed
        .map(drop)
        .with_context(|| format!("cannot remove the token {id}"))
}

fn random(count: usize) -> String {
    let character = |_| {
        char::from(
            ALPHABET
                .get(rand::random_range(0..ALPHABET.len()))
                .copied()
                .unwrap_or(b'0'),
        )
    };
    (0..count).map(character).collect()
}

fn is_loopback(server: &str) -> bool {
    let host = server
        .parse::<http::Uri>()
        .ok()
        .and_then(|uri| uri.host().map(str::to_owned));
    let host = host.unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    ip.map_or(host == "localhost", |ip| ip.is_loopback() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_of_the_right_form() {
        let token = random(SECRET_CHARACTERS);
        assert_eq!(token.len(), SECRET_CHARACTERS);
        assert!(token.bytes().all(|byte| ALPHABET.contains(&byte)));
        assert_ne!(token, random(SECRET_CHARACTERS));
    }

    #[test]
    fn addresses_of_this_machine_alone_are_known() {
        for server in [
            "https://127.0.0.1:6443",
            "https://localhost:6443",
            "https://[::1]:1",
            "https://0.0.0.0:6443",
        ] {
            assert!(is_loopback(server), "{server}");
        }
        for server in ["https://192.168.7.1:6443", "https://box.example:6443"] {
            assert!(!is_loopback(server), "{server}");
        }
    }
}
