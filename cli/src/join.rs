//! How a machine becomes a node: it learns whom to trust by a token, proves itself with it once, and has certificates of its
//! own from then on.
//!
//! The steps are kubeadm's. What the cluster tells strangers is fetched without trust, and believed because it is signed with
//! the token and names the authority whose hash the user gave; from then on that authority must vouch for the server.

use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use coracle_link::Purpose;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{AuthInfo, Kubeconfig},
    runtime::wait::await_condition,
};
use ring::hmac;
use serde_json::json;

use crate::{kubeconfig::Access, say::say};

/// How far the clocks of two machines may be apart: a node that is further behind would be taken for lost while it works.
const SKEW: Duration = Duration::from_secs(30);
/// How long the signature of a token that was made just now is waited for.
const SIGNED: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// After how long without a certificate the user is told what a person may have to do.
const APPROVED: Duration = Duration::from_secs(5);

/// What a user gives to join.
pub struct Wanted<'a> {
    /// The API's URL.
    pub server: &'a str,
    /// The token.
    pub token: &'a str,
    /// The hashes of which the authority must have one; without any, who holds a token is believed.
    pub pins: &'a [String],
    /// The node's name.
    pub node: &'a str,
}

/// Joins: what this node needs to be known to the API server from now on.
///
/// # Errors
/// When the server cannot be reached or believed, or refuses.
pub async fn join(wanted: &Wanted<'_>) -> anyhow::Result<Access> {
    let (id, secret) = parse(wanted.token)?;
    let ca_pem = discover(wanted, id, secret).await?;
    let mut config = config(wanted.server)?;
    config.root_cert = Some(certificates(&ca_pem)?);
    config.auth_info = AuthInfo {
        token: Some(wanted.token.to_owned().into()),
        ..AuthInfo::default()
    };
    let client = Client::try_from(config)?;
    let (cert_pem, key_pem) = certificate(&client, wanted.node, Purpose::Client, None).await?;
    Ok(Access {
        server: wanted.server.trim_end_matches('/').to_owned(),
        ca_pem,
        cert_pem,
        key_pem,
    })
}

fn parse(token: &str) -> anyhow::Result<(&str, &str)> {
    let fits = |text: &str, count| {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        text.len() == count && text.bytes().all(known)
    };
    let parts = token.split_once('.');
    parts.filter(|(id, secret)| fits(id, 6) && fits(secret, 16)).context(
        "the token is none: it looks like abcdef.0123456789abcdef; `coracle token create` makes one where the cluster is",
    )
}

fn config(server: &str) -> anyhow::Result<Config> {
    let url: http::Uri = server
        .parse()
        .with_context(|| format!("{server:?} is no URL such as https://192.168.7.1:6443"))?;
    if url.scheme_str() != Some("https") || url.host().is_none() {
        bail!("{server:?} is no URL such as https://192.168.7.1:6443");
    }
    let mut config = Config::new(url);
    config.connect_timeout = Some(ANSWER);
    Ok(config)
}

/// The authority of the cluster, PEM.
async fn discover(wanted: &Wanted<'_>, id: &str, secret: &str) -> anyhow::Result<String> {
    let mut config = config(wanted.server)?;
    // What comes is believed for its signature, and for nothing else.
    config.accept_invalid_certs = true;
    let client = Client::try_from(config)?;
    check_clock(&client, wanted.server).await?;
    let data = info(&client, id).await?;
    let signature = data.get(&format!("jws-kubeconfig-{id}")).with_context(|| {
        format!("the cluster knows no token {id}: it may have expired; make another with `coracle token create`")
    })?;
    let text = data.get("kubeconfig").map(String::as_str).unwrap_or_default();
    if !is_signed(signature, text, secret) {
        bail!("the token is wrong: the cluster has a token {id}, but with another secret after the dot");
    }
    let told = Kubeconfig::from_yaml(text).context("what the cluster tells is no kubeconfig")?;
    let cluster = told.clusters.first().and_then(|named| named.cluster.as_ref());
    let authority = cluster.and_then(|cluster| cluster.certificate_authority_data.as_deref());
    let authority = authority.context("the cluster does not tell its authority")?;
    let authority = base64::engine::general_purpose::STANDARD.decode(authority)?;
    let authority = String::from_utf8(authority).context("the cluster's authority is no PEM")?;
    let pin = coracle_link::authority_pin(&authority).context("the cluster's authority is no certificate")?;
    if !wanted.pins.is_empty() && !wanted.pins.contains(&pin) {
        bail!(
            "this is not the cluster that you mean: the hash of its authority is {pin}, not {}; compare with what \
             `coracle token create --print-join-command` prints",
            wanted.pins.join(" or ")
        );
    }
    Ok(authority)
}

/// What the cluster tells strangers, with a signature by this token if there will be one.
async fn info(client: &Client, id: &str) -> anyhow::Result<std::collections::BTreeMap<String, String>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let name = format!("jws-kubeconfig-{id}");
    let until = tokio::time::Instant::now() + SIGNED;
    loop {
        let data = match maps.get("cluster-info").await {
            Ok(map) => map.data.unwrap_or_default(),
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403 | 404) => bail!(
                "the cluster tells nothing to machines that join: make a token with `coracle token create` where it is"
            ),
            Err(error) => return Err(error).context("the cluster does not tell what joining needs"),
        };
        if data.contains_key(&name) || tokio::time::Instant::now() >= until {
            return Ok(data);
        }
        // Strangers may not watch.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Whether the signature is that of the text, by the holder of the secret.
fn is_signed(signature: &str, text: &str, secret: &str) -> bool {
    let mut parts = signature.split('.');
    let (Some(header), Some(""), Some(signed), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Ok(signed) = URL_SAFE_NO_PAD.decode(signed) else {
        return false;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let payload = format!("{header}.{}", URL_SAFE_NO_PAD.encode(text));
    hmac::verify(&key, payload.as_bytes(), &signed).is_ok()
}

/// Refuses to go on when the clocks of both machines are far apart: certificates and leases would seem to be over.
async fn check_clock(client: &Client, server: &str) -> anyhow::Result<()> {
    let request = http::Request::get("/version").body(kube::client::Body::empty())?;
    let unreachable = || {
        format!(
            "{server} cannot be reached: does the cluster run, and listen at this address (`coracle up --listen \
             ADDRESS:6443 ...`), and does nothing between the machines keep it away?"
        )
    };
    let answer = tokio::time::timeout(ANSWER, client.send(request)).await;
    let answer = answer.ok().context("no answer in time").with_context(unreachable)?;
    let answer = answer.map_err(|error| anyhow::anyhow!(coracle_controllers::leader::causes(&error)));
    let answer = answer.with_context(unreachable)?;
    let date = answer
        .headers()
        .get(http::header::DATE)
        .and_then(|date| date.to_str().ok());
    let theirs = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    match theirs {
        Some(theirs) => compare(SystemTime::from(theirs.timestamp()), SystemTime::now()),
        None => Ok(()),
    }
}

fn compare(theirs: SystemTime, ours: SystemTime) -> anyhow::Result<()> {
    let (apart, way) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if apart > SKEW {
        bail!(
            "the clock of this machine is {} s {way} the server's: set it (with NTP, as `timedatectl set-ntp true` does), \
             or the node would be taken for lost",
            apart.as_secs()
        );
    }
    Ok(())
}

fn certificates(pem: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let decoded = pem.split("-----BEGIN CERTIFICATE-----").skip(1).map(|part| {
        let body = part.split("-----END").next().unwrap_or_default();
        let body: String = body.split_whitespace().collect();
        base64::engine::general_purpose::STANDARD.decode(body)
    });
    decoded
        .collect::<Result<_, _>>()
        .context("the cluster's authority is no PEM")
}

/// Asks for a certificate and waits until it is there, for so long or for as long as it takes: the certificate and its private
/// key, PEM.
///
/// # Errors
/// When the request is refused, or nobody decides in time.
pub async fn certificate(
    client: &Client,
    node: &str,
    purpose: Purpose,
    patience: Option<Duration>,
) -> anyhow::Result<(String, String)> {
    let (request, key) = coracle_link::request(node, purpose)?;
    let (signer, usage) = match purpose {
        Purpose::Client => ("kubernetes.io/kube-apiserver-client-kubelet", "client auth"),
        Purpose::Serving => ("kubernetes.io/kubelet-serving", "server auth"),
    };
    let object: CertificateSigningRequest = serde_json::from_value(json!({
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": base64::engine::general_purpose::STANDARD.encode(request),
            "signerName": signer, "usages": ["digital signature", usage],
        },
    }))?;
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let made = match requests.create(&PostParams::default(), &object).await {
        Ok(made) => made,
        Err(kube::Error::Api(status)) if status.code == 401 && patience.is_none() => {
            bail!("the cluster does not take the token: it may have expired; make another with `coracle token create`")
        }
        Err(error) => return Err(error).context("the cluster takes no request for a certificate from this machine"),
    };
    let name = made.metadata.name.unwrap_or_default();
    let decided = await_condition(requests, &name, |request: Option<&CertificateSigningRequest>| {
        request.is_none_or(|request| issued(request).is_some() || refused(request).is_some())
    });
    let decided = async {
        tokio::pin!(decided);
        if let Ok(decided) = tokio::time::timeout(APPROVED, &mut decided).await {
            return decided;
        }
        say(format_args!(
            "waiting     for somebody to run: kubectl certificate approve {name}"
        ));
        decided.await
    };
    let decided = match patience {
        None => decided.await,
        Some(patience) => {
            let decided = tokio::time::timeout(patience, decided).await;
            decided.map_err(|_| {
                anyhow::anyhow!(
                    "nobody has decided about the request for a certificate, {name}, in {} s: do the cluster's controllers \
                     run? `kubectl certificate approve {name}` decides by hand",
                    patience.as_secs()
                )
            })?
        }
    };
    let request = decided.context("cannot see what becomes of the request for a certificate")?;
    let request = request.context("the request for a certificate was deleted")?;
    if let Some(why) = refused(&request) {
        bail!("the request for a certificate, {name}, was refused: {why}");
    }
    let certificate = issued(&request).context("the request for a certificate was not signed")?;
    Ok((certificate, key))
}

fn issued(request: &CertificateSigningRequest) -> Option<String> {
    let certificate = request.status.as_ref()?.certificate.as_ref()?;
    String::from_utf8(certificate.0.clone()).ok()
}

fn refused(request: &CertificateSigningRequest) -> Option<String> {
    let conditions = request.status.as_ref()?.conditions.as_ref()?;
    let mut refusals = conditions
        .iter()
        .filter(|c| matches!(c.type_.as_str(), "Denied" | "Failed"));
    refusals
        .next()
        .map(|c| c.message.clone().unwrap_or_else(|| c.type_.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_its_form() {
        assert_eq!(
            parse("abcdef.0123456789abcdef").unwrap(),
            ("abcdef", "0123456789abcdef")
        );
        for wrong in [
            "",
            "abcdef",
            "abcdef.short",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcdef.x",
        ] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("coracle token create"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_signature_is_of_the_text_and_by_the_token() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"abcdef"}"#);
        let sign = |secret: &str, text: &str| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            let signed = hmac::sign(&key, format!("{header}.{}", URL_SAFE_NO_PAD.encode(text)).as_bytes());
            format!("{header}..{}", URL_SAFE_NO_PAD.encode(signed))
        };
        let signature = sign("0123456789abcdef", "text");
        assert!(is_signed(&signature, "text", "0123456789abcdef"));
        assert!(!is_signed(&signature, "other", "0123456789abcdef"));
        assert!(!is_signed(&signature, "text", "0123456789abcdee"));
        assert!(!is_signed("a.b.c", "text", "0123456789abcdef"));
        assert!(!is_signed("", "text", "0123456789abcdef"));
    }

    #[test]
    fn clocks_that_are_far_apart_are_told() {
        let now = SystemTime::now();
        compare(now, now + Duration::from_secs(20)).unwrap();
        let behind = compare(now + Duration::from_secs(600), now).unwrap_err().to_string();
        assert!(behind.contains("600 s behind the server's"), "{behind}");
        let ahead = compare(now, now + Duration::from_secs(600)).unwrap_err().to_string();
        assert!(ahead.contains("600 s ahead of the server's"), "{ahead}");
    }

    #[test]
    fn a_server_is_named_by_its_url() {
        for wrong in ["192.168.7.1:6443", "http://192.168.7.1:6443", "https://", "x y"] {
            assert!(config(wrong).is_err(), "{wrong}");
        }
        config("https://192.168.7.1:6443").unwrap();
    }
}
