//! Who a request acts as: the connection's identity, or another one that this identity may take on.

use coracle_api::status::ApiError;
use http::HeaderMap;

use crate::authz::{self, Attributes, Policies};
use crate::identity::{AUTHENTICATED, Identity};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
/// The user name of a service account begins so; namespace and name follow.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Takes on the identity that the headers name. Each part of it needs the right to impersonate; without headers the
/// identity stays.
pub(crate) fn impersonate(
    policies: &Policies,
    own: &Identity,
    headers: &HeaderMap,
) -> Result<Option<Identity>, ApiError> {
    let texts = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect()
    };
    let (users, groups) = (texts(USER), texts(GROUP));
    let others = headers
        .keys()
        .any(|name| name == "impersonate-uid" || name.as_str().starts_with("impersonate-extra-"));
    let Some(user) = users.first().filter(|user| !user.is_empty()) else {
        return match groups.is_empty() && !others {
            true => Ok(None),
            false => Err(ApiError::bad_request(
                "requested impersonation without impersonating a user",
            )),
        };
    };
    if others {
        return Err(ApiError::bad_request(
            "impersonation of uids and extra fields is not supported",
        ));
    }
    let right = |resource, namespace, name| Attributes {
        verb: "impersonate",
        resource,
        namespace,
        name: Some(name),
        ..Attributes::default()
    };
    let account = user.strip_prefix(SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, name)) => authz::check(policies, own, &right("serviceaccounts", Some(namespace), name))?,
        None => authz::check(policies, own, &right("users", None, user))?,
    }
    for group in &groups {
        authz::check(policies, own, &right("groups", None, group))?;
    }
    let mut all: Vec<String> = groups;
    if let Some((namespace, _)) = account.filter(|_| all.is_empty()) {
        all.extend([
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ]);
    }
    if !all.iter().any(|group| group == AUTHENTICATED) {
        all.push(AUTHENTICATED.to_owned());
    }
    Ok(Some(Identity {
        user: user.as_str().into(),
        groups: all.into(),
    }))
}
