//! Whether an image that the node has can run here, before a pod is made of it.

use crate::node::Node;
use coracle_images::{Image, Reference};
use std::sync::Arc;

/// Verdicts that are kept, a digest and mostly nothing each: more images than a node has at a time.
pub const MAX_VERDICTS: usize = 1024;

/// The runtime classes whose guests are what every container's are.
const CLASSES: [&str; 3] = ["", "coracle", "coracle-fuel"];

/// What the node knows of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does not have it, or may have another by the time it runs.
    Unknown,
    /// It can run.
    Fit,
    /// It cannot, and why.
    Unfit(Arc<str>),
}

/// Looks at an image as a container with this pull policy and runtime class would have it.
pub async fn verdict(node: &Arc<Node>, image: &str, pull_policy: &str, runtime_class: &str) -> Verdict {
    let fixed = match Reference::parse(image) {
        // What is asked of a registry each time, or is a file that its owner saves again, is looked at when it starts.
        Ok(Reference::File(_)) | Err(_) => false,
        Ok(_) => pull_policy != "Always" || !image.contains('/'),
    };
    if !fixed || !CLASSES.contains(&runtime_class) {
        return Verdict::Unknown;
    }
    let Ok(found) = node.images.resolve(image) else {
        return Verdict::Unknown;
    };
    if let Some(known) = node.verdicts.lock().get(&found.digest) {
        return known.clone();
    }
    let (runtime, looked_at) = (node.runtime.clone(), found.clone());
    let look = move || judge(&runtime, &looked_at);
    // Reading a large module takes a while.
    let verdict = tokio::task::spawn_blocking(look).await.unwrap_or(Verdict::Unknown);
    if verdict != Verdict::Unknown {
        let mut verdicts = node.verdicts.lock();
        if verdicts.len() >= MAX_VERDICTS {
            verdicts.clear();
        }
        verdicts.insert(found.digest, verdict.clone());
    }
    verdict
}

fn judge(runtime: &coracle_runtime::Runtime, image: &Image) -> Verdict {
    let Ok(wasm) = image.wasm() else {
        return Verdict::Unknown;
    };
    match runtime.check(&wasm) {
        Ok(_) => Verdict::Fit,
        Err(error) => Verdict::Unfit(error.to_string().into()),
    }
}
