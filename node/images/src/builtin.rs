//! The images that are part of the binary: the sample guests, compiled when the binary is built.
//!
//! Each guest has three tags over the same module: `latest`, `v1` and `v2`. They differ in the variable `VERSION` of their
//! configuration, so that `kubectl set image` has something to roll out on a fresh install. Nothing is hashed before an image is
//! asked for: a node starts without reading them.

use crate::config::ImageConfig;
use crate::layout;
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

include!(concat!(env!("OUT_DIR"), "/builtins.rs"));
include!(concat!(env!("OUT_DIR"), "/drivers.rs"));

/// The tags of every built-in image.
pub const TAGS: [&str; 3] = ["latest", "v1", "v2"];

/// One built-in image: a guest under one tag.
pub struct Builtin {
    /// The guest's name, which is the image's.
    pub name: &'static str,
    /// One of [`TAGS`].
    pub tag: &'static str,
    /// The module.
    pub wasm: &'static [u8],
    described: OnceLock<Description>,
}

/// What has to be computed to name the content.
#[derive(Clone)]
pub struct Description {
    /// The digest of the manifest: the image's identity.
    pub id: Arc<str>,
    /// The digest of the module.
    pub digest: Arc<str>,
    /// The defaults of the image.
    pub config: Arc<ImageConfig>,
}

impl Builtin {
    /// Hashes module and manifest on first use.
    pub fn describe(&self) -> &Description {
        self.described.get_or_init(|| {
            let config = self.config();
            let (manifest, _) = layout::manifest(&config, self.wasm);
            Description {
                id: layout::digest_of(&manifest).into(),
                digest: layout::digest_of(self.wasm).into(),
                config: Arc::new(config),
            }
        })
    }

    /// The module's bytes, not copied.
    pub fn bytes(&self) -> Bytes {
        Bytes::from_static(self.wasm)
    }

    fn config(&self) -> ImageConfig {
        ImageConfig {
            entrypoint: vec![self.name.to_owned()],
            env: vec![format!(
                "VERSION={}",
                if self.tag == "latest" { "v1" } else { self.tag }
            )],
            ..ImageConfig::default()
        }
    }
}

/// All built-in images, by name and tag.
pub fn all() -> &'static [Builtin] {
    static ALL: OnceLock<Vec<Builtin>> = OnceLock::new();
    ALL.get_or_init(|| {
        BUILTINS
            .iter()
            .flat_map(|(name, wasm)| {
                TAGS.map(|tag| Builtin {
                    name,
                    tag,
                    wasm,
                    described: OnceLock::new(),
                })
            })
            .collect()
    })
}

/// The names of the built-in images, for messages.
pub fn names() -> String {
    BUILTINS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The guest that makes whatever calls to the host it is told to make; see `guests/test/driver`. It is part of the binary, and
/// no image: nothing that a pod can name.
pub fn driver() -> Bytes {
    Bytes::from_static(DRIVERS.first().map_or(&[], |(_, wasm)| *wasm))
}
