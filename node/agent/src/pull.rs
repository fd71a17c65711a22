//! The image of a container or a volume: from the node's store, or from its registry when the pull policy says so.

use crate::env::Lookup;
use crate::events::{Entry, Subject};
use crate::node::Node;
use crate::objects::{Kind, Watched};
use crate::start::Held;
use coracle_images::{Image, ImageError, Keyring, PullError, Reference};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use std::time::Instant;

/// The keys of Secrets that hold credentials: of today's type, and of the older one.
const DOCKER_CONFIG: &str = ".dockerconfigjson";
const DOCKER_CFG: &str = ".dockercfg";

/// When a registry is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Each time: the name may mean something else by now.
    Always,
    /// When the node does not have the image.
    IfNotPresent,
    /// Not at all.
    Never,
}

impl Policy {
    /// Reads the word of the API; the API server has filled in the default.
    pub fn parse(word: Option<&str>) -> Self {
        match word {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            _ => Self::IfNotPresent,
        }
    }
}

/// There is no image.
#[derive(Debug, thiserror::Error)]
pub enum NoImage {
    /// The node does not have it, and may not ask for it.
    #[error(transparent)]
    Absent(#[from] ImageError),
    /// The registry does not give it, or it cannot run here.
    #[error(transparent)]
    Pull(#[from] PullError),
}

/// For whom an image is wanted.
pub struct Wanted<'a> {
    /// The node.
    pub node: &'a Node,
    /// The pod.
    pub pod: &'a Pod,
    /// The objects that it holds, its Secrets among them.
    pub objects: &'a [Arc<Watched>],
    /// What events say that it is for: `spec.containers{name}`.
    pub field_path: Option<String>,
}

/// The names of the Secrets by which a pod's images are pulled.
pub fn secrets(pod: &Pod) -> impl Iterator<Item = &str> {
    let named = pod
        .spec
        .iter()
        .flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    named
        .map(|reference| reference.name.as_str())
        .filter(|name| !name.is_empty())
}

impl Wanted<'_> {
    /// The image, and what to say about how it was had.
    ///
    /// # Errors
    /// When it is not here and cannot be had.
    pub async fn image(&self, name: &str, policy: Policy) -> Result<(Image, String), NoImage> {
        let here = self.node.images.resolve(name);
        let pulls = match (&here, policy) {
            (_, Policy::Never) => false,
            (Ok(_), Policy::IfNotPresent) => false,
            (Ok(_), Policy::Always) => true,
            (Err(error), _) => matches!(error, ImageError::NotPulled { .. } | ImageError::Damaged { .. }),
        };
        // The node's own images and files have nowhere to be pulled from.
        let remote = matches!(Reference::parse(name), Ok(Reference::Registry { .. }));
        if !pulls || !remote {
            return Ok((here?, format!("Container image {name:?} already present on machine")));
        }
        self.tell(false, "Pulling", format!("Pulling image {name:?}"));
        let (keyring, started) = (self.keyring(), Instant::now());
        let pulled = self.node.images.pull(name, &keyring).await?;
        let told = format!(
            "Successfully pulled image {name:?} in {:.3}s. Image size: {} bytes.",
            started.elapsed().as_secs_f64(),
            pulled.image.size
        );
        Ok((pulled.image, told))
    }

    /// The pod's own credentials first, then those of whoever runs the node.
    fn keyring(&self) -> Keyring {
        let mut keyring = Keyring::default();
        let mut unusable = Vec::new();
        for name in secrets(self.pod) {
            let origin = format!("secret {name:?}");
            let added = Held(self.objects).find(Kind::Secret, name).map(|secret| {
                let read = |key: &str| secret.data.get(key).map(Vec::as_slice);
                match (read(DOCKER_CONFIG), read(DOCKER_CFG)) {
                    (Some(json), _) => keyring
                        .add_docker_config(json, &origin)
                        .map_err(|error| error.to_string()),
                    (None, Some(json)) => keyring.add_docker_cfg(json, &origin).map_err(|error| error.to_string()),
                    (None, None) => Err(format!("{origin} has no key {DOCKER_CONFIG}")),
                }
            });
            match added {
                Some(Ok(())) => {}
                Some(Err(why)) => unusable.push(why),
                None => unusable.push(format!("{origin} not found")),
            }
        }
        if !unusable.is_empty() {
            let why = unusable.join("; ");
            let text = format!(
                "Unable to retrieve some image pull secrets ({why}); attempting to pull the image may not succeed."
            );
            self.tell(true, "FailedToRetrieveImagePullSecret", text);
        }
        keyring.with_users_own()
    }

    /// Says in an event of the pod what is being done about the image.
    pub fn tell(&self, warning: bool, reason: &'static str, message: String) {
        self.node.recorder.record(Entry {
            subject: Arc::new(Subject::of(self.pod)),
            field_path: self.field_path.clone(),
            warning,
            reason,
            message,
        });
    }
}
