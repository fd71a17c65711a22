//! Hostnames of listeners and routes: one name, all names under one, or any. Pure.
//!
//! As the specification of the Gateway API says, a wildcard stands for one label or more, which is not how Ingress has it.

/// Which hosts are meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hostname {
    /// One name, in lower case.
    Exact(String),
    /// All names under this one, which is given with its dot: `.example.com`.
    Under(String),
    /// Any.
    Any,
}

impl Hostname {
    /// Of the text in an object; none means any.
    pub fn new(text: Option<&str>) -> Self {
        let text = text.unwrap_or_default().to_ascii_lowercase();
        match text.strip_prefix('*') {
            _ if text.is_empty() => Self::Any,
            Some(rest) => Self::Under(rest.to_owned()),
            None => Self::Exact(text),
        }
    }

    /// Whether a name in lower case is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Under(rest) => name.len() > rest.len() && name.ends_with(rest.as_str()),
            Self::Any => true,
        }
    }

    /// What both mean; none where no host is meant by both.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let narrower = match (self, other) {
            (any, Self::Any) => any,
            (Self::Any, other) => other,
            (exact @ Self::Exact(name), wide) | (wide, exact @ Self::Exact(name)) => {
                return wide.matches(name).then(|| exact.clone());
            }
            (Self::Under(one), Self::Under(two)) => {
                if one.ends_with(two.as_str()) {
                    self
                } else if two.ends_with(one.as_str()) {
                    other
                } else {
                    return None;
                }
            }
        };
        Some(narrower.clone())
    }

    /// The more, the sooner it is asked.
    pub fn precision(&self) -> (u8, usize) {
        match self {
            Self::Exact(name) => (2, name.len()),
            Self::Under(rest) => (1, rest.len()),
            Self::Any => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_meet_where_both_mean_them() {
        let host = |text: &str| Hostname::new(Some(text));
        for (one, two, both) in [
            ("a.com", "a.com", Some("a.com")),
            ("A.com", "*.com", Some("a.com")),
            ("x.a.com", "*.com", Some("x.a.com")),
            ("com", "*.com", None),
            ("*.com", "*.a.com", Some("*.a.com")),
            ("*.b.com", "*.a.com", None),
            ("", "*.a.com", Some("*.a.com")),
            ("", "", Some("")),
            ("a.com", "b.com", None),
        ] {
            assert_eq!(host(one).and(&host(two)), both.map(host), "{one} and {two}");
            assert_eq!(host(two).and(&host(one)), both.map(host), "{two} and {one}");
        }
        assert!(!host("*.a.com").matches("a.com") && host("*.a.com").matches("x.y.a.com"));
        assert!(!host("*.a.com").matches("xa.com"));
    }
}
