//! The media types of registries: what a manifest, a configuration and a layer say they are.

/// An image's manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A list of manifests, one for each platform.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The configuration of an image.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The configuration of a wasm artifact.
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// The files of an image, as our builder packs them.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A WebAssembly module or component as a layer.
pub const MODULE: &str = "application/wasm";

/// Docker's names for the first three.
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What modules were called before there was one name.
const OTHER_MODULES: [&str; 3] = [
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];

/// Archives of files.
const TAR: [&str; 2] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
];
const TAR_GZIP: [&str; 2] = [LAYER, "application/vnd.docker.image.rootfs.diff.tar.gzip"];

/// What is asked of a registry.
pub const ACCEPTED: [&str; 4] = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];

/// How the files of a layer are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As they are.
    Tar,
    /// Compressed.
    Gzip,
}

/// Whether this is a list of manifests.
pub fn is_index(media_type: &str) -> bool {
    [INDEX, DOCKER_INDEX].contains(&media_type)
}

/// Whether this is the configuration of an ordinary image.
pub fn is_image_config(media_type: &str) -> bool {
    [CONFIG, DOCKER_CONFIG].contains(&media_type)
}

/// Whether this layer is a module.
pub fn is_module(media_type: &str) -> bool {
    media_type == MODULE || OTHER_MODULES.contains(&media_type)
}

/// How a layer is packed, if it is an archive that we read.
pub fn packing(media_type: &str) -> Option<Packing> {
    if TAR.contains(&media_type) {
        Some(Packing::Tar)
    } else if TAR_GZIP.contains(&media_type) {
        Some(Packing::Gzip)
    } else {
        None
    }
}
