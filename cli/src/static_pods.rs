//! Pods that run whatever the API says: those of a directory of manifests, and those of a document at a URL.

pub mod directory;
pub mod url;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::manifest;

/// The pods of a document: one or several of them, or a list.
fn pods_of(text: &str) -> anyhow::Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for object in manifest::parse(text)? {
        let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
        match kind {
            "Pod" => pods.push(object.try_parse().context("it is no Pod")?),
            "PodList" | "List" => {
                let items = object.data.get("items").cloned().unwrap_or_default();
                let found: Vec<Pod> = serde_json::from_value(items).context("it is no list of pods")?;
                pods.extend(found);
            }
            other => bail!("only a Pod can run without the API, and this is {other:?}"),
        }
    }
    Ok(pods)
}

/// The pods of several sources together, until `stop`.
pub fn together(sources: Vec<watch::Receiver<Vec<Pod>>>, stop: CancellationToken) -> Option<watch::Receiver<Vec<Pod>>> {
    if sources.len() < 2 {
        return sources.into_iter().next();
    }
    let all = |sources: &mut [watch::Receiver<Vec<Pod>>]| -> Vec<Pod> {
        let lists = sources.iter_mut().map(|source| source.borrow_and_update().clone());
        lists.flatten().collect()
    };
    let mut sources = sources;
    let (sender, receiver) = watch::channel(all(&mut sources));
    tokio::spawn(async move {
        loop {
            let changes = sources.iter_mut().map(|source| Box::pin(source.changed()));
            tokio::select! {
                () = stop.cancelled() => return,
                (changed, _, _) = futures::future::select_all(changes) => if changed.is_err() {
                    // A source ends with the cluster alone.
                    return;
                },
            }
            sender.send_replace(all(&mut sources));
        }
    });
    Some(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_pods_or_says_what_it_has() {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}\n";
        assert_eq!(pods_of(pod).unwrap().len(), 1);
        assert_eq!(pods_of(&format!("{pod}---\n{pod}")).unwrap().len(), 2);
        let list = r#"{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "a"}, "spec": {"containers": []}}]}"#;
        assert_eq!(pods_of(list).unwrap().len(), 1);
        let wrong = pods_of("apiVersion: v1\nkind: Service\n").unwrap_err().to_string();
        assert!(wrong.contains("\"Service\""), "{wrong}");
    }

    #[tokio::test]
    async fn sources_are_one_list() {
        let stop = CancellationToken::new();
        let (first, a) = watch::channel(vec![Pod::default()]);
        let (_second, b) = watch::channel(vec![Pod::default(), Pod::default()]);
        let mut all = together(vec![a, b], stop.clone()).unwrap();
        assert_eq!(all.borrow_and_update().len(), 3);
        first.send_replace(Vec::new());
        all.wait_for(|pods| pods.len() == 2).await.unwrap();
        assert!(together(Vec::new(), stop).is_none());
    }
}
