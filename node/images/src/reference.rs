//! What the text in an `image:` field means.
//!
//! The grammar is that of OCI references: `[registry/]path[:tag][@digest]`. The first part is a registry when it has a dot or a
//! colon or is `localhost`; otherwise the name is the node's own. There is no default registry: `hello` never becomes a name
//! on a server somewhere.

use std::fmt;
use std::path::PathBuf;

/// References longer than this are refused: the limit of the OCI distribution specification for a name is 255 and a digest adds 72.
const MAX_REFERENCE_BYTES: usize = 512;

/// A parsed image reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// An image in the node's own store, built-ins included.
    Local {
        /// The path, `hello` or `team/app`.
        path: String,
        /// The tag; `latest` where neither tag nor digest is given.
        tag: Option<String>,
        /// `sha256:...`, when the reference is pinned.
        digest: Option<String>,
    },
    /// An image of a registry; it is looked up in the node's own store under its full name.
    Registry {
        /// The host, with its port if there is one.
        registry: String,
        /// The path in that registry.
        path: String,
        /// The tag; `latest` where neither tag nor digest is given.
        tag: Option<String>,
        /// `sha256:...`, when the reference is pinned.
        digest: Option<String>,
    },
    /// A file of the host: `file:///path/to/app.wasm`.
    File(PathBuf),
}

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing is there.
    #[error("the image reference is empty")]
    Empty,
    /// Longer than any valid reference.
    #[error("the image reference is longer than {MAX_REFERENCE_BYTES} bytes")]
    TooLong,
    /// The text does not follow the grammar.
    #[error("couldn't parse image name {reference:?}: {why}")]
    Invalid {
        /// The text.
        reference: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Reference {
    /// Reads a reference.
    ///
    /// # Errors
    /// When the text does not follow the grammar of references; names are lower case.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > MAX_REFERENCE_BYTES {
            return Err(ReferenceError::TooLong);
        }
        let invalid = |why| ReferenceError::Invalid {
            reference: text.to_owned(),
            why,
        };
        if let Some(path) = text.strip_prefix("file://") {
            return if path.starts_with('/') && path.len() > 1 {
                Ok(Self::File(PathBuf::from(path)))
            } else {
                Err(invalid("a file reference is file:// and an absolute path"))
            };
        }
        if text.contains("://") {
            return Err(invalid("a reference has no scheme"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(parse_digest(digest).ok_or_else(|| invalid("the digest must be sha256: and 64 hex digits"))?),
            ),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(invalid("a tag has up to 128 letters, digits, '_', '.' and '-'"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        let (registry, path) = split_registry(name);
        if registry.is_some_and(|registry| !is_registry(registry)) {
            return Err(invalid("the registry is no host name"));
        }
        if !is_path(path) {
            return Err(invalid(
                "a name has lower-case letters and digits, separated by '.', '_', '-' or '/'",
            ));
        }
        let path = path.to_owned();
        Ok(match registry {
            Some(registry) => Self::Registry {
                registry: registry.to_owned(),
                path,
                tag,
                digest,
            },
            None => Self::Local { path, tag, digest },
        })
    }

    /// The name without tag and digest; the text of a file reference.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Local { path, .. } => path.clone(),
            Self::Registry { registry, path, .. } => format!("{registry}/{path}"),
            Self::File(path) => format!("file://{}", path.display()),
        }
    }

    /// The tag, if there is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Local { tag, .. } | Self::Registry { tag, .. } => tag.as_deref(),
            Self::File(_) => None,
        }
    }

    /// The digest that pins the reference, if there is one.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        match self {
            Self::Local { digest, .. } | Self::Registry { digest, .. } => digest.as_deref(),
            Self::File(_) => None,
        }
    }

    /// Whether the tag is `latest`, which is what makes `Always` the default pull policy.
    #[must_use]
    pub fn is_latest(&self) -> bool {
        self.digest().is_none() && self.tag() == Some("latest")
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = self.digest() {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// A colon after the last slash starts the tag; before it, it belongs to the registry's port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, name),
    }
}

fn parse_digest(text: &str) -> Option<String> {
    let hex = text.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))).then(|| text.to_owned())
}

fn is_tag(tag: &str) -> bool {
    !tag.is_empty()
        && tag.len() <= 128
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_registry(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let named = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    named && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_path(path: &str) -> bool {
    !path.is_empty() && path.len() <= 255 && path.split('/').all(is_path_component)
}

/// Runs of letters and digits, separated by one '.', one or two '_', or any number of '-'.
fn is_path_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().copied().is_some_and(alphanumeric) && bytes.last().copied().is_some_and(alphanumeric);
    ends && bytes.chunk_by(|a, b| alphanumeric(*a) == alphanumeric(*b)).all(|run| {
        run.first().copied().is_some_and(alphanumeric)
            || matches!(run, b"." | b"_" | b"__")
            || run.iter().all(|b| *b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn local(path: &str, tag: &str) -> Reference {
        Reference::Local {
            path: path.into(),
            tag: Some(tag.into()),
            digest: None,
        }
    }

    #[test]
    fn unqualified_names_are_local() {
        assert_eq!(Reference::parse("hello"), Ok(local("hello", "latest")));
        assert_eq!(Reference::parse("hello:v2"), Ok(local("hello", "v2")));
        assert_eq!(Reference::parse("team/app_x--y:1.0"), Ok(local("team/app_x--y", "1.0")));
    }

    #[test]
    fn a_dot_or_a_port_makes_a_registry() {
        for (text, registry, path, tag) in [
            ("docker.io/library/nginx", "docker.io", "library/nginx", "latest"),
            ("localhost:5000/app:v1", "localhost:5000", "app", "v1"),
            ("localhost/app", "localhost", "app", "latest"),
        ] {
            let expected = Reference::Registry {
                registry: registry.into(),
                path: path.into(),
                tag: Some(tag.into()),
                digest: None,
            };
            assert_eq!(Reference::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_digest_pins_and_needs_no_tag() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        let parsed = Reference::parse(&format!("hello@{digest}")).unwrap();
        assert_eq!(parsed.digest(), Some(digest.as_str()));
        assert_eq!(parsed.tag(), None);
        assert!(!parsed.is_latest());
    }

    #[test]
    fn files_need_an_absolute_path() {
        assert_eq!(
            Reference::parse("file:///a/b.wasm"),
            Ok(Reference::File("/a/b.wasm".into()))
        );
        assert!(Reference::parse("file://a.wasm").is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "Hello",
            "a b",
            "a:",
            "a::b",
            "-a",
            "a/",
            "/a",
            "a//b",
            "a@sha256:12",
            "a..b",
            "http://x/y",
            "a.b:x/y",
            "a:.x",
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(text in "([a-z]{1,5}\\.[a-z]{2}(:[0-9]{1,4})?/)?[a-z0-9]{1,8}([._-][a-z0-9]{1,4})?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,6})?") {
            let parsed = Reference::parse(&text).unwrap();
            prop_assert_eq!(Reference::parse(&parsed.to_string()), Ok(parsed));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = Reference::parse(&text);
        }
    }
}
