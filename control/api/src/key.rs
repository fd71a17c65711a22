//! Names of things: a resource within its group, and one object of it.

use std::borrow::Cow;
use std::fmt;

/// A resource and its group. Prints as `pods` or `deployments.apps`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// The API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// The plural name of the resource.
    pub resource: Cow<'static, str>,
}

impl GroupResource {
    /// A resource of a group; pass an empty group for the core one.
    pub fn new(group: impl Into<Cow<'static, str>>, resource: impl Into<Cow<'static, str>>) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
        }
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// One object: its resource, its namespace when the resource has one, its name.
/// Prints as `pods/default/web` or `nodes//a`, which sorts a resource's objects by namespace, then name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// What kind of thing.
    pub resource: GroupResource,
    /// Where, for namespaced resources.
    pub namespace: Option<String>,
    /// Which.
    pub name: String,
}

impl ObjectKey {
    /// The key of a named object.
    pub fn new(resource: GroupResource, namespace: Option<&str>, name: &str) -> Self {
        Self {
            resource,
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}",
            self.resource,
            self.namespace.as_deref().unwrap_or_default(),
            self.name
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_print_resource_namespace_and_name() {
        let pods = GroupResource::new("", "pods");
        let deployments = GroupResource::new("apps", "deployments");
        assert_eq!(
            ObjectKey::new(pods.clone(), Some("default"), "web").to_string(),
            "pods/default/web"
        );
        assert_eq!(
            ObjectKey::new(deployments, Some("a"), "b").to_string(),
            "deployments.apps/a/b"
        );
        assert_eq!(ObjectKey::new(pods, None, "n").to_string(), "pods//n");
    }
}
