//! Who makes a request, and how a client certificate says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The group of cluster administrators: everything is allowed to it.
pub const MASTERS: &str = "system:masters";
/// The group of everyone who proved an identity.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everyone who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of requests without an identity.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of all nodes.
pub const NODES: &str = "system:nodes";
/// The user name of a node begins so; its name follows.
const NODE: &str = "system:node:";
/// The user name of a service account begins so; namespace and name follow.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// The group of all service accounts; those of one namespace are in `system:serviceaccounts:<namespace>` too.
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// What else is known of a user: facts under names, as whoever vouched for the user gave them.
pub type Extra = BTreeMap<String, Vec<String>>;

/// A user with groups. Cheap to clone: one is made per connection and shared by its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub user: Arc<str>,
    /// The groups that the user is in.
    pub groups: Arc<[String]>,
    /// What tells the user from an earlier one of the same name; empty when unknown.
    pub uid: Arc<str>,
    /// What else is known; often nothing.
    pub extra: Arc<Extra>,
}

/// Of a request on a connection whose certificate has ended since the handshake: it proves nothing any more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CertificateOver;

/// When a certificate ends; `None` when it is none.
pub(crate) fn until(der: &[u8]) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

impl Identity {
    /// Someone who proved to be `user`; `system:authenticated` is added to the groups.
    pub fn new(user: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Self::proven(user, groups)
    }

    /// The same with groups that are owned already.
    pub(crate) fn proven(user: &str, mut groups: Vec<String>) -> Self {
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self::exactly(user, groups)
    }

    /// Someone with exactly these groups.
    pub(crate) fn exactly(user: &str, groups: Vec<String>) -> Self {
        Self {
            user: user.into(),
            groups: groups.into(),
            uid: "".into(),
            extra: Arc::default(),
        }
    }

    /// Someone who proved nothing.
    pub fn anonymous() -> Self {
        Self::exactly(ANONYMOUS, vec![UNAUTHENTICATED.to_owned()])
    }

    /// A service account.
    pub(crate) fn service_account(namespace: &str, name: &str) -> Self {
        Self::proven(
            &format!("{SERVICE_ACCOUNT}{namespace}:{name}"),
            service_account_groups(namespace),
        )
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

    /// What the program is called that uses this identity, when it does not say so itself.
    pub(crate) fn program(&self) -> &str {
        let user = &*self.user;
        if user.starts_with("system:node:") {
            return "kubelet";
        }
        match user.strip_prefix("system:") {
            Some(rest) => rest.rsplit(':').next().unwrap_or(rest),
            None => user,
        }
    }

    /// Whether everything is allowed to this identity, whatever the roles say.
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// Whether nothing was proved.
    pub(crate) fn is_anonymous(&self) -> bool {
        *self.user == *ANONYMOUS
    }

    /// The node that this is the agent of.
    pub(crate) fn node(&self) -> Option<&str> {
        let name = self.user.strip_prefix(NODE).filter(|name| !name.is_empty())?;
        self.groups.iter().any(|group| group == NODES).then_some(name)
    }

    /// As `UserInfo` in reviews.
    pub(crate) fn user_info(&self) -> Value {
        let mut info = json!({"username": &*self.user});
        let Some(fields) = info.as_object_mut() else {
            return info;
        };
        if !self.uid.is_empty() {
            fields.insert("uid".to_owned(), json!(&*self.uid));
        }
        fields.insert("groups".to_owned(), json!(&*self.groups));
        if !self.extra.is_empty() {
            fields.insert("extra".to_owned(), json!(&*self.extra));
        }
        info
    }
}

/// The groups of a namespace's service accounts.
pub(crate) fn service_account_groups(namespace: &str) -> Vec<String> {
    vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")]
}

/// The namespace and name of a service account in a user name.
pub(crate) fn service_account_of(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_in_the_groups_of_its_namespace() {
        let account = Identity::service_account("shop", "web");
        assert_eq!(service_account_of(&account.user), Some(("shop", "web")));
        let groups = ["system:serviceaccounts", "system:serviceaccounts:shop", AUTHENTICATED];
        assert_eq!(*account.groups, groups);
        for user in [
            "ann",
            "system:serviceaccount:shop",
            "system:serviceaccount::web",
            "system:serviceaccount:a:b:c",
        ] {
            assert_eq!(service_account_of(user), None, "{user}");
        }
    }

    #[test]
    fn a_node_is_one_by_name_and_group() {
        assert_eq!(Identity::new("system:node:n1", &[NODES]).node(), Some("n1"));
        assert_eq!(Identity::new("system:node:n1", &[]).node(), None);
        assert_eq!(Identity::new("system:node:", &[NODES]).node(), None);
        assert_eq!(Identity::new("ann", &[NODES]).node(), None);
    }
}
