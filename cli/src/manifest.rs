//! Applying manifests: YAML documents in, objects created or merged through the API.

use anyhow::{Context, bail};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::{Scope, pinned_kind},
};
use serde::Deserialize;

/// The objects of a manifest of one or several YAML documents.
///
/// # Errors
/// When a document is no YAML or no Kubernetes object.
pub fn parse(text: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let value = serde_json::Value::deserialize(document)
            .with_context(|| format!("document {} is not valid YAML", index + 1))?;
        if value.is_null() {
            continue;
        }
        objects.push(
            serde_json::from_value(value).with_context(|| format!("document {} is no Kubernetes object", index + 1))?,
        );
    }
    Ok(objects)
}

/// Creates each object, or merges it into the one that is there, in the order given.
///
/// # Errors
/// When the server refuses an object; those before it stay applied.
pub async fn apply(client: &Client, objects: &[DynamicObject]) -> anyhow::Result<()> {
    for object in objects {
        let what = describe(object);
        apply_one(client, object)
            .await
            .with_context(|| format!("cannot apply {what}"))?;
    }
    Ok(())
}

async fn apply_one(client: &Client, object: &DynamicObject) -> anyhow::Result<()> {
    let Some(types) = &object.types else {
        bail!("apiVersion and kind are missing");
    };
    let gvk = GroupVersionKind::try_from(types)?;
    let (resource, capabilities) = pinned_kind(client, &gvk).await?;
    let api: Api<DynamicObject> = match (&capabilities.scope, object.namespace()) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), &namespace, &resource),
        (Scope::Namespaced, None) => Api::default_namespaced_with(client.clone(), &resource),
    };
    match api.create(&PostParams::default(), object).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
            api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(object))
                .await?;
            Ok(())
        }
        other => other.map(drop).map_err(Into::into),
    }
}

fn describe(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("object", |types| types.kind.as_str());
    format!("{kind} {}", object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_documents_are_several_objects() {
        let objects = parse(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: a}\ndata: {k: v}\n",
        )
        .unwrap();
        assert_eq!(objects.len(), 2);
        assert_eq!(describe(&objects[1]), "ConfigMap b");
    }

    #[test]
    fn a_broken_document_is_named() {
        let error = parse("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n{")
            .unwrap_err()
            .to_string();
        assert!(error.contains("document 2"), "{error}");
    }
}
