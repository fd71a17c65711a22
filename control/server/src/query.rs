//! The options that travel in a query string, parsed once and strictly.

use coracle_api::field_error::FieldError;
use coracle_api::normalise::Strictness;
use coracle_api::selector::{FieldSelector, LabelSelector};
use coracle_api::status::ApiError;
use http::HeaderMap;

use crate::identity::Identity;

/// A query string's pairs, decoded, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a raw query string.
    pub(crate) fn parse(raw: Option<&str>) -> Self {
        let raw = raw.unwrap_or_default();
        Self(form_urlencoded::parse(raw.as_bytes()).into_owned().collect())
    }

    /// The first value of `name`, when it is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// This query for the one object of this name.
    pub(crate) fn single_name(&self, name: &str) -> Self {
        let mut pairs: Vec<_> = self
            .0
            .iter()
            .filter(|(key, _)| key != "fieldSelector")
            .cloned()
            .collect();
        pairs.push(("fieldSelector".to_owned(), format!("metadata.name={name}")));
        Self(pairs)
    }

    /// All values of `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether `name` is set to something that means yes. A bare `?name` does, as in Kubernetes.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        Ok(self.tristate(name)?.unwrap_or(false))
    }

    /// Yes, no, or not given.
    pub(crate) fn tristate(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self
            .0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
        {
            None => Ok(None),
            Some("" | "1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(Some(false)),
            Some(other) => Err(invalid(name, other)),
        }
    }

    /// A number, when given.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.get(name)
            .map(|text| text.parse().map_err(|_| invalid(name, text)))
            .transpose()
    }
}

fn invalid(name: &str, value: &str) -> ApiError {
    ApiError::bad_request(format!("invalid value {value:?} of query parameter {name}"))
}

/// How a given resource version is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    /// Not said.
    Unset,
    /// At least this version.
    NotOlderThan,
    /// This version and no other.
    Exact,
}

/// The options of list and watch.
#[derive(Clone)]
pub(crate) struct ListOptions {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    /// At most so many items; 0 is no limit.
    pub(crate) limit: usize,
    pub(crate) continue_token: Option<String>,
    /// `None` for "" (the newest).
    pub(crate) version: Option<u64>,
    pub(crate) version_match: VersionMatch,
    pub(crate) bookmarks: bool,
    pub(crate) initial_events: Option<bool>,
    pub(crate) timeout_seconds: Option<u64>,
}

impl ListOptions {
    /// Reads the options and checks the combinations that Kubernetes refuses.
    pub(crate) fn parse(query: &Query, watch: bool) -> Result<Self, ApiError> {
        let version = match query.get("resourceVersion") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                ApiError::bad_request(format!("Invalid value: {text:?}: resourceVersion must be a number"))
            })?),
        };
        let version_match = match query.get("resourceVersionMatch") {
            None => VersionMatch::Unset,
            Some("NotOlderThan") => VersionMatch::NotOlderThan,
            Some("Exact") => VersionMatch::Exact,
            Some(other) => {
                return Err(refused(
                    "resourceVersionMatch",
                    format!("Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""),
                ));
            }
        };
        let options = Self {
            labels: LabelSelector::parse(query.get("labelSelector").unwrap_or_default())?,
            fields: FieldSelector::parse(query.get("fieldSelector").unwrap_or_default())?,
            limit: query.number::<usize>("limit")?.unwrap_or(0),
            continue_token: query.get("continue").map(str::to_owned),
            version,
            version_match,
            bookmarks: query.flag("allowWatchBookmarks")?,
            initial_events: query.tristate("sendInitialEvents")?,
            timeout_seconds: query.number("timeoutSeconds")?,
        };
        if watch {
            options.check_watch()?
        } else {
            options.check_list()?
        }
        Ok(options)
    }

    fn check_list(&self) -> Result<(), ApiError> {
        if self.initial_events.is_some() {
            return Err(refused(
                "sendInitialEvents",
                "Forbidden: sendInitialEvents is forbidden for list".into(),
            ));
        }
        if self.continue_token.is_some() && self.version.is_some_and(|version| version > 0) {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        if self.version_match == VersionMatch::Unset {
            return Ok(());
        }
        if self.continue_token.is_some() {
            return Err(refused(
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch is forbidden when continue is provided".into(),
            ));
        }
        match (self.version, self.version_match) {
            (None, _) => Err(refused(
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided".into(),
            )),
            (Some(0), VersionMatch::Exact) => Err(refused(
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"".into(),
            )),
            _ => Ok(()),
        }
    }

    fn check_watch(&self) -> Result<(), ApiError> {
        match (self.initial_events, self.version_match) {
            (Some(_), VersionMatch::NotOlderThan) | (None, VersionMatch::Unset) => Ok(()),
            (Some(_), _) => Err(refused(
                "resourceVersionMatch",
                "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan".into(),
            )),
            (None, _) => Err(refused(
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided".into(),
            )),
        }
    }

    /// The single name that is asked for, when the field selector says so.
    pub(crate) fn single_name(&self) -> Option<&str> {
        self.fields.requires("metadata.name")
    }

    /// Whether every object is wanted.
    pub(crate) fn wants_all(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }
}

fn refused(field: &str, text: String) -> ApiError {
    ApiError::unprocessable(format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: {text}"))
}

/// The longest accepted name of a field manager, in bytes, as in Kubernetes.
const FIELD_MANAGER_BYTES: usize = 128;

/// The options of every write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteOptions<'a> {
    /// Do everything but commit.
    pub(crate) dry_run: bool,
    pub(crate) validation: Strictness,
    /// To whom the fields belong that this writes.
    pub(crate) manager: &'a str,
    /// The manager was named, not guessed.
    pub(crate) named: bool,
    /// Take fields from other managers.
    pub(crate) force: Option<bool>,
}

impl<'a> WriteOptions<'a> {
    /// Reads the options from a query. `kind` is what errors call them: `CreateOptions` and so on. Who does not say who
    /// writes is known by the program that asks, or else by the identity.
    pub(crate) fn parse(
        kind: &str,
        query: &'a Query,
        headers: &'a HeaderMap,
        identity: &'a Identity,
    ) -> Result<Self, ApiError> {
        let mut faults = Vec::new();
        let mut dry_run = false;
        for value in query.all("dryRun").filter(|value| !value.is_empty()) {
            match value {
                "All" => dry_run = true,
                other => faults.push(FieldError::not_supported("dryRun", other, &["All"])),
            }
        }
        let validation = match query.get("fieldValidation") {
            None | Some("Warn") => Strictness::Warn,
            Some("Ignore") => Strictness::Ignore,
            Some("Strict") => Strictness::Strict,
            Some(other) => {
                faults.push(FieldError::not_supported(
                    "fieldValidation",
                    other,
                    &["Ignore", "Strict", "Warn"],
                ));
                Strictness::Warn
            }
        };
        let named = query.get("fieldManager");
        if let Some(manager) = named {
            if manager.len() > FIELD_MANAGER_BYTES {
                faults.push(FieldError::too_long("fieldManager", FIELD_MANAGER_BYTES));
            }
            if manager.chars().any(char::is_control) {
                let detail = "should only contain printable characters";
                faults.push(FieldError::invalid("fieldManager", manager, detail));
            }
        }
        let options = Self {
            dry_run,
            validation,
            manager: named.unwrap_or_else(|| program(headers).unwrap_or_else(|| identity.program())),
            named: named.is_some(),
            force: query.tristate("force")?,
        };
        match faults.is_empty() {
            true => Ok(options),
            false => Err(ApiError::invalid(kind, "meta.k8s.io", "", faults)),
        }
    }

    /// Checks what only an apply may and must say.
    pub(crate) fn check_patch(&self, apply: bool) -> Result<(), ApiError> {
        let fault = match (apply, self.named, self.force) {
            (true, false, _) => FieldError::required("fieldManager", "is required for apply patch"),
            (false, _, Some(_)) => FieldError::forbidden("force", "may not be specified for non-apply patch"),
            _ => return Ok(()),
        };
        Err(ApiError::invalid("PatchOptions", "meta.k8s.io", "", vec![fault]))
    }
}

/// The name of the program that asks, from its user agent: what stands before the first slash.
fn program(headers: &HeaderMap) -> Option<&str> {
    let agent = headers.get(http::header::USER_AGENT)?.to_str().ok()?;
    let name = agent.split('/').next()?.trim();
    let end = name.len().min(FIELD_MANAGER_BYTES);
    name.get(..end).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(raw: &str, watch: bool) -> Result<ListOptions, ApiError> {
        ListOptions::parse(&Query::parse(Some(raw)), watch)
    }

    #[test]
    fn flags_and_numbers() {
        let query = Query::parse(Some("watch&a=true&b=0&c=x&n=12&labelSelector=a%3Db"));
        assert!(query.flag("watch").unwrap());
        assert!(query.flag("a").unwrap());
        assert!(!query.flag("b").unwrap());
        assert!(query.flag("c").is_err());
        assert!(!query.flag("absent").unwrap());
        assert_eq!(query.number::<u64>("n").unwrap(), Some(12));
        assert!(query.number::<u64>("c").is_err());
        assert_eq!(query.get("labelSelector"), Some("a=b"));
    }

    #[test]
    fn refused_combinations() {
        assert_eq!(
            list("resourceVersionMatch=Exact", false).err().map(|e| e.code),
            Some(422)
        );
        assert!(list("resourceVersionMatch=Exact&resourceVersion=0", false).is_err());
        assert!(list("resourceVersionMatch=Exact&resourceVersion=7", false).is_ok());
        assert!(list("resourceVersionMatch=Exact&resourceVersion=7&continue=x", false).is_err());
        assert!(list("sendInitialEvents=true", false).is_err());
        assert!(list("sendInitialEvents=true", true).is_err());
        assert!(list("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", true).is_ok());
        assert!(list("resourceVersionMatch=NotOlderThan&resourceVersion=1", true).is_err());
        assert!(list("resourceVersion=abc", true).is_err());
    }

    #[test]
    fn a_single_name_is_recognised() {
        assert_eq!(
            list("fieldSelector=metadata.name%3Dweb", true).unwrap().single_name(),
            Some("web")
        );
        assert_eq!(
            list("fieldSelector=metadata.name!%3Dweb", true).unwrap().single_name(),
            None
        );
    }

    #[test]
    fn write_options() {
        let identity = Identity::new("system:serviceaccount:kube-system:job-controller", &[]);
        let mut headers = HeaderMap::new();
        let check = |raw: &str, headers: &HeaderMap| {
            let query = Query::parse(Some(raw));
            let parsed = WriteOptions::parse("PatchOptions", &query, headers, &identity);
            parsed.map(|o| {
                (
                    o.dry_run,
                    o.validation,
                    o.manager.to_owned(),
                    o.check_patch(true).is_ok(),
                )
            })
        };
        assert!(check("dryRun=All", &headers).unwrap().0);
        assert_eq!(
            check("dryRun=Some", &headers).unwrap_err().message,
            "PatchOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: \"Some\": supported values: \"All\""
        );
        assert_eq!(check("fieldValidation=Strict", &headers).unwrap().1, Strictness::Strict);
        assert_eq!(check("fieldValidation=strict", &headers).unwrap_err().code, 422);
        assert_eq!(
            check(&format!("fieldManager={}", "x".repeat(129)), &headers)
                .unwrap_err()
                .code,
            422
        );
        assert_eq!(check("", &headers).unwrap().2, "job-controller");
        headers.insert("user-agent", "kubectl/v1.32.0 (linux/amd64)".parse().unwrap());
        assert_eq!(check("", &headers).unwrap().2, "kubectl");
        assert!(!check("", &headers).unwrap().3);
        assert!(check("fieldManager=me", &headers).unwrap().3);
    }
}
