//! Acting as somebody else: each part of the other identity needs the right to impersonate.

use coracle_api::status::ApiError;
use http::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::authz::{self, Attributes};
use crate::core::Core;
use crate::identity::{ANONYMOUS, Extra, Identity, UNAUTHENTICATED, service_account_groups, service_account_of};

/// How the names of the headers begin that say for whom somebody speaks.
pub(crate) const PREFIX: &str = "impersonate-";
const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
/// The group under which uids and further facts are impersonated.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// What the headers of a request ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    user: String,
    groups: Vec<String>,
    uid: String,
    extra: Extra,
}

impl Wish {
    /// Takes the wish out of the headers, so that nothing behind acts on it again.
    fn take(headers: &mut HeaderMap) -> Option<Self> {
        let names: Vec<_> = headers
            .keys()
            .filter(|name| name.as_str().starts_with(PREFIX))
            .cloned()
            .collect();
        if names.is_empty() {
            return None;
        }
        let mut wish = Self::default();
        for name in names {
            let values = headers.get_all(&name).iter();
            let mut values: Vec<String> = values
                .filter_map(|value| value.to_str().ok().map(str::to_owned))
                .collect();
            headers.remove(&name);
            match name.as_str() {
                USER => wish.user = values.into_iter().next().unwrap_or_default(),
                GROUP => wish.groups = values,
                UID => wish.uid = values.into_iter().next().unwrap_or_default(),
                name => {
                    if let Some(key) = name.strip_prefix(EXTRA) {
                        let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
                        wish.extra.entry(key).or_default().append(&mut values);
                    }
                }
            }
        }
        Some(wish)
    }
}

/// Takes on the identity that the headers name; without such headers there is none.
pub(super) fn act_as(core: &Core, own: &Identity, headers: &mut HeaderMap) -> Result<Option<Identity>, ApiError> {
    let Some(wish) = Wish::take(headers) else {
        return Ok(None);
    };
    if wish.user.is_empty() {
        return Err(ApiError::bad_request(
            "requested impersonation without impersonating a user",
        ));
    }
    check(core, own, &wish)?;
    Ok(Some(identity(wish)))
}

fn check(core: &Core, own: &Identity, wish: &Wish) -> Result<(), ApiError> {
    let right = |resource, name| Attributes {
        verb: "impersonate",
        resource,
        name: Some(name),
        ..Attributes::default()
    };
    match service_account_of(&wish.user) {
        Some((namespace, name)) => authz::check(
            core,
            own,
            &Attributes {
                namespace: Some(namespace),
                ..right("serviceaccounts", name)
            },
        )?,
        None => authz::check(core, own, &right("users", &wish.user))?,
    }
    for group in &wish.groups {
        authz::check(core, own, &right("groups", group))?;
    }
    if !wish.uid.is_empty() {
        let uid = Attributes {
            group: AUTHENTICATION,
            ..right("uids", &wish.uid)
        };
        authz::check(core, own, &uid)?;
    }
    for (key, values) in &wish.extra {
        for value in values {
            let extra = Attributes {
                group: AUTHENTICATION,
                subresource: Some(key),
                ..right("userextras", value)
            };
            authz::check(core, own, &extra)?;
        }
    }
    Ok(())
}

fn identity(wish: Wish) -> Identity {
    let mut groups = wish.groups;
    if let Some((namespace, _)) = service_account_of(&wish.user).filter(|_| groups.is_empty()) {
        groups = service_account_groups(namespace);
    }
    let mut identity = if wish.user == ANONYMOUS {
        if !groups.iter().any(|group| group == UNAUTHENTICATED) {
            groups.push(UNAUTHENTICATED.to_owned());
        }
        Identity::exactly(&wish.user, groups)
    } else {
        Identity::proven(&wish.user, groups)
    };
    identity.uid = wish.uid.into();
    identity.extra = wish.extra.into();
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read_once() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("impersonate-user", "ann"),
            ("impersonate-group", "dev"),
            ("impersonate-group", "ops"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-acme.com%2fproject", "x"),
            ("accept", "application/json"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let found = identity(Wish::take(&mut headers).unwrap());
        assert_eq!((&*found.user, &*found.uid), ("ann", "7"));
        assert_eq!(*found.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(found.extra["acme.com/project"], ["x"]);
        assert_eq!(headers.len(), 1);
        assert_eq!(Wish::take(&mut headers), None);
    }

    #[test]
    fn some_names_bring_groups_along() {
        let wish = |user: &str| Wish {
            user: user.to_owned(),
            ..Wish::default()
        };
        let account = identity(wish("system:serviceaccount:a:b"));
        assert_eq!(
            *account.groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:a",
                "system:authenticated"
            ]
        );
        assert_eq!(*identity(wish(ANONYMOUS)).groups, [UNAUTHENTICATED]);
    }
}
