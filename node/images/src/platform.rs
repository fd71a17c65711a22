//! Which of several builds of an image runs here, and whether one does at all.

use crate::layout::{ConfigDocument, Descriptor};
use serde::Deserialize;

/// A list of manifests, as far as choosing needs it.
#[derive(Debug, Deserialize)]
pub struct Builds {
    manifests: Vec<Build>,
}

#[derive(Debug, Deserialize)]
struct Build {
    #[serde(flatten)]
    descriptor: Descriptor,
    platform: Option<Platform>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Platform {
    os: String,
    architecture: String,
}

impl Platform {
    /// A smaller number is better; none: it is for something else.
    fn rank(&self) -> Option<usize> {
        let wasm = matches!(self.architecture.as_str(), "wasm" | "wasm32");
        // Components do more than modules; the oldest name says nothing about which it is.
        let systems = ["wasip2", "wasip1", "wasi"];
        systems.iter().position(|os| wasm && *os == self.os)
    }

    fn is_real(&self) -> bool {
        !matches!(self.os.as_str(), "" | "unknown")
    }

    fn name(&self) -> String {
        format!("{}/{}", self.os, self.architecture)
    }
}

impl Builds {
    /// The build for WebAssembly. Where none says that it is one, the first for another platform: modules in ordinary images are
    /// often built as if they were Linux programs, and what its configuration says decides.
    pub fn choose(&self) -> Option<&Descriptor> {
        let platform = |build: &Build| build.platform.as_ref().and_then(Platform::rank);
        let wasm = self
            .manifests
            .iter()
            .filter_map(|build| Some((platform(build)?, build)));
        let best = wasm.min_by_key(|(rank, _)| *rank).map(|(_, build)| build);
        let real = |build: &&Build| build.platform.as_ref().is_none_or(Platform::is_real);
        let chosen = best.or_else(|| self.manifests.iter().find(real))?;
        Some(&chosen.descriptor)
    }

    /// The platforms that there are builds for, for messages.
    pub fn names(&self) -> String {
        let real = self.manifests.iter().filter_map(|build| build.platform.as_ref());
        let mut names: Vec<String> = real.filter(|platform| platform.is_real()).map(Platform::name).collect();
        names.dedup();
        match names.is_empty() {
            true => "nothing".to_owned(),
            false => names.join(", "),
        }
    }
}

/// The program of an ordinary image, which has to be a module.
///
/// # Errors
/// With what the image is instead.
pub fn program(config: &ConfigDocument) -> Result<&str, String> {
    let first = config.config.entrypoint.first().or(config.config.cmd.first());
    match first {
        Some(program) if program.ends_with(".wasm") => Ok(program),
        Some(program) => Err(format!("{}, whose program is {program:?}", described(config))),
        None => Err(format!("{} without a program", described(config))),
    }
}

/// `this is a linux/amd64 image`, as far as it says.
fn described(config: &ConfigDocument) -> String {
    match config.os.is_empty() {
        true => "this is an image for no platform".to_owned(),
        false => format!("this is a {}/{} image", config.os, config.architecture),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn builds(platforms: &[(&str, &str)]) -> Builds {
        let build = |(index, (os, architecture)): (usize, &(&str, &str))| {
            json!({"mediaType": "m", "digest": index.to_string(), "size": 1,
                "platform": {"os": os, "architecture": architecture}})
        };
        let manifests: Vec<_> = platforms.iter().enumerate().map(build).collect();
        serde_json::from_value(json!({ "manifests": manifests })).unwrap()
    }

    #[test]
    fn components_come_before_modules_and_both_before_others() {
        for (platforms, chosen) in [
            (
                &[("linux", "amd64"), ("wasip1", "wasm"), ("wasip2", "wasm")][..],
                Some("2"),
            ),
            (&[("linux", "arm64"), ("wasi", "wasm32")], Some("1")),
            (&[("unknown", "unknown"), ("linux", "amd64")], Some("1")),
            (&[("unknown", "unknown")], None),
        ] {
            let builds = builds(platforms);
            assert_eq!(
                builds.choose().map(|found| found.digest.as_str()),
                chosen,
                "{platforms:?}"
            );
        }
        assert_eq!(
            builds(&[("linux", "amd64"), ("unknown", "unknown")]).names(),
            "linux/amd64"
        );
    }

    #[test]
    fn an_image_of_something_else_says_what_it_is() {
        let config = |value| serde_json::from_value::<ConfigDocument>(value).unwrap();
        let linux = config(json!({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["nginx"]}}));
        assert_eq!(
            program(&linux).unwrap_err(),
            "this is a linux/amd64 image, whose program is \"nginx\""
        );
        assert!(
            program(&config(json!({"config": null})))
                .unwrap_err()
                .contains("without a program")
        );
        let module = config(json!({"os": "linux", "architecture": "amd64", "config": {"Entrypoint": ["/app.wasm"]}}));
        assert_eq!(program(&module), Ok("/app.wasm"));
    }
}
