//! Whether a new pod's images can run here, asked of the nodes that have them.
//!
//! A program that needs what no node provides is refused with the reason when the pod is made, instead of when its container
//! would start. Where no node has the image nothing is known, and the container's status will tell.

use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::Value;

use super::{Request, is};
use crate::dial::WantedImage;
use crate::registry::update::Part;

/// Where a pod has containers.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Refuses a pod with an image that cannot run.
pub(crate) async fn validate(request: &Request<'_>, pod: &Value) -> Result<(), ApiError> {
    let concerns = is(request.scope.kind, "", "Pod") && matches!(request.part, Part::Main | Part::EphemeralContainers);
    // A pod that has its node was not made for whoever can run it; mirrors of static pods are such.
    if !concerns || (request.old.is_none() && !object::text(pod, "spec.nodeName").is_empty()) {
        return Ok(());
    }
    for list in CONTAINERS {
        for container in object::list(pod, &format!("spec.{list}")) {
            let name = object::text(container, "name");
            let image = object::text(container, "image");
            if image.is_empty() || had(request, list, name) == Some(image) {
                continue;
            }
            let wanted = WantedImage {
                image,
                pull_policy: object::text(container, "imagePullPolicy"),
                runtime_class: object::text(pod, "spec.runtimeClassName"),
            };
            if let Some(why) = request.scope.core.nodes.refusal(wanted).await {
                let words = format!("pod rejected: container {name:?}: image {image:?} cannot run here: {why}");
                return Err(request.forbidden(&words));
            }
        }
    }
    Ok(())
}

/// The image that a container had before the write.
fn had<'a>(request: &Request<'a>, list: &str, name: &str) -> Option<&'a str> {
    let containers = object::list(request.old?, &format!("spec.{list}"));
    let container = containers
        .iter()
        .find(|container| object::text(container, "name") == name)?;
    Some(object::text(container, "image"))
}
