//! Who makes a request, and how a client certificate says so.

use std::sync::Arc;

use x509_parser::prelude::{FromDer, X509Certificate};

/// The group of cluster administrators: everything is allowed to it.
pub const MASTERS: &str = "system:masters";
/// The group of everyone who proved an identity.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everyone who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of requests without an identity.
pub const ANONYMOUS: &str = "system:anonymous";

/// A user with groups. Cheap to clone: one is made per connection and shared by its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub user: Arc<str>,
    /// The groups that the user is in.
    pub groups: Arc<[String]>,
}

impl Identity {
    /// Someone who proved to be `user`; `system:authenticated` is added to the groups.
    pub fn new(user: &str, groups: &[&str]) -> Self {
        let mut all: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        if !all.iter().any(|group| group == AUTHENTICATED) {
            all.push(AUTHENTICATED.to_owned());
        }
        Self {
            user: user.into(),
            groups: all.into(),
        }
    }

    /// Someone who proved nothing.
    pub fn anonymous() -> Self {
        Self {
            user: ANONYMOUS.into(),
            groups: vec![UNAUTHENTICATED.to_owned()].into(),
        }
    }

    /// Reads a certificate that has already been verified: the common name is the user, organisations are groups.
    /// `None` when it names no user.
    pub fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?;
        let groups: Vec<&str> = subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
        (!user.is_empty()).then(|| Self::new(user, &groups))
    }

    /// Whether everything is allowed to this identity, whatever the roles say.
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}
