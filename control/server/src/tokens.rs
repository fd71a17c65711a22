//! The tokens of service accounts as texts: claims, signed with the cluster's own key (JWT, ES256).
//!
//! There is one algorithm and one key, whatever a token's header says; a header that says something else makes the token
//! bad. Checking a signature costs as much as answering ten small requests, so what was checked is remembered.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::UnparsedPublicKey;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// How many checked tokens are remembered. A token is used by one pod, and a laptop's cluster has some thousands; one
/// takes less than 1 KiB.
const REMEMBERED: usize = 4096;
/// The issuer of tokens that live in Secrets.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// Why tokens cannot be signed.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The stored key is no PEM.
    #[error("service account key: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// The stored key is no P-256 key.
    #[error("service account key: {0}")]
    Key(ring::error::KeyRejected),
    /// The system gave no randomness.
    #[error("signing a token failed")]
    Sign,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Claims {
    Bound(Bound),
    Legacy(Legacy),
}

/// A token with an end, for certain audiences, bound to objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) aud: Vec<String>,
    /// Seconds since 1970, as the other times.
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) iss: String,
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) kubernetes: Home,
    pub(crate) nbf: i64,
    pub(crate) sub: String,
}

/// What a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Home {
    pub(crate) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Reference>,
    pub(crate) serviceaccount: Reference,
    /// When whoever uses the token should have fetched a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warnafter: Option<i64>,
}

/// One object, which another of the same name is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// A token that lives in a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Legacy {
    pub(crate) iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub(crate) namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub(crate) secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub(crate) name: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub(crate) uid: String,
    pub(crate) sub: String,
}

impl Legacy {
    pub(crate) fn new(namespace: &str, secret: &str, name: &str, uid: &str) -> Self {
        Self {
            iss: LEGACY_ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            sub: format!("system:serviceaccount:{namespace}:{name}"),
        }
    }
}

/// Signs tokens and checks them.
pub(crate) struct Tokens {
    key: EcdsaKeyPair,
    random: SystemRandom,
    /// The name of the key.
    id: String,
    /// The one header that tokens have, encoded.
    header: String,
    /// What good tokens say, by their hash: the tokens themselves are not kept.
    remembered: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

impl Tokens {
    /// Takes a private key, PKCS#8 in PEM.
    pub(crate) fn new(key_pem: &str) -> Result<Self, TokenError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(key_pem.as_bytes())?;
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
            .map_err(TokenError::Key)?;
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(key.public_key().as_ref()));
        let header = json!({"alg": "ES256", "kid": id}).to_string();
        Ok(Self {
            key,
            random,
            id,
            header: URL_SAFE_NO_PAD.encode(header),
            remembered: Mutex::default(),
        })
    }

    /// A token that says this.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        let claims = serde_json::to_vec(claims).map_err(|_| TokenError::Sign)?;
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims));
        let signature = self
            .key
            .sign(&self.random, token.as_bytes())
            .map_err(|_| TokenError::Sign)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// What a token says, if this key signed it. Whether it is still good is not asked here.
    pub(crate) fn verify(&self, token: &str) -> Option<Arc<Claims>> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.remembered.lock().get(&hash) {
            return Some(claims.clone());
        }
        let claims = Arc::new(self.check(token)?);
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED {
            // Which ones are still in use is not known; those come back with one check each.
            remembered.clear();
        }
        remembered.insert(hash, claims.clone());
        Some(claims)
    }

    fn check(&self, token: &str) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if header != self.header {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }

    /// The public key as a JSON Web Key Set, by which others check tokens.
    pub(crate) fn key_set(&self) -> Value {
        // An uncompressed point: 4, then both coordinates.
        let point = self.key.public_key().as_ref();
        let coordinate = |range| point.get(range).map(|bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes));
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": coordinate(1..33), "y": coordinate(33..65),
        }]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens() -> Tokens {
        Tokens::new(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()
    }

    fn claims() -> Claims {
        Claims::Legacy(Legacy::new("n", "s", "a", "u"))
    }

    #[test]
    fn what_was_signed_is_read_by_the_same_key_only() {
        let (ours, others) = (tokens(), tokens());
        let token = ours.sign(&claims()).unwrap();
        assert_eq!(token.matches('.').count(), 2);
        for _ in 0..2 {
            assert_eq!(*ours.verify(&token).unwrap(), claims());
        }
        assert_eq!(others.verify(&token), None);
    }

    #[test]
    fn a_header_that_asks_for_no_signature_is_refused() {
        let ours = tokens();
        let token = ours.sign(&claims()).unwrap();
        let rest = token.split_once('.').unwrap().1;
        for header in [json!({"alg": "none"}), json!({"alg": "HS256", "kid": ours.id})] {
            let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()));
            assert_eq!(ours.verify(&forged), None);
        }
    }

    #[test]
    fn the_key_set_has_a_point() {
        let set = tokens().key_set();
        assert_eq!(set["keys"][0]["x"].as_str().unwrap().len(), 43);
        assert_eq!(set["keys"][0]["y"].as_str().unwrap().len(), 43);
    }

    proptest! {
        #[test]
        fn a_changed_token_is_refused(at in 0_usize..400, with in "[A-Za-z0-9_-]") {
            let ours = tokens();
            let token = ours.sign(&claims()).unwrap();
            let mut changed = token.clone();
            let at = at % token.len();
            changed.replace_range(at..=at, &with);
            // The last character of a part holds bits that mean nothing; strict decoding refuses those too.
            prop_assume!(changed != token);
            prop_assert_eq!(ours.verify(&changed), None);
        }

        #[test]
        fn nonsense_is_refused_quietly(text in ".{0,200}") {
            prop_assert_eq!(tokens().verify(&text), None);
        }
    }
}
