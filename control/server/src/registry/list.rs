//! List: a page of one consistent state.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::kinds::Kind;
use coracle_api::status::ApiError;
use coracle_store::{Record, Snapshot};

use super::token::Token;
use super::{Scope, custom};
use crate::document;
use crate::query::{ListOptions, VersionMatch};

/// How long a client that has seen a later version waits for this server to see it too, as in Kubernetes.
pub(crate) const WAIT: Duration = Duration::from_secs(3);

/// A page of a list.
pub(crate) struct Page {
    /// The revision at which it is true.
    pub(crate) revision: u64,
    pub(crate) records: Vec<Arc<Record>>,
    /// Where the next page begins; `None` at the end.
    pub(crate) next: Option<String>,
    /// How many objects come after this page, where that is known.
    pub(crate) remaining: Option<usize>,
}

impl Scope<'_> {
    /// Reads a page.
    pub(crate) async fn page(&self, options: &ListOptions) -> Result<Page, ApiError> {
        let options = &*self.selection(options)?;
        let prefix = document::prefix_in(self.kind, self.namespace);
        let (snapshot, after) = match &options.continue_token {
            Some(token) => self.resume(token, &prefix)?,
            None => (self.state(options).await?, None),
        };
        let revision = snapshot.revision();
        let all = snapshot.range(&prefix, after.as_deref());
        if custom::selects_converted(self.kind, options) {
            let chosen = custom::chosen(self.core, self.kind, all, options).await?;
            return Ok(page(revision, chosen.iter(), &prefix, options));
        }
        let every = options.wants_all();
        let matching = all.filter(|record| every || matches(self.kind, record, options));
        let mut page = page(revision, matching, &prefix, options);
        if self.kind.custom.is_some() {
            page.records = custom::present(self.core, self.kind, page.records).await?;
        }
        Ok(page)
    }

    /// The state that a resource version asks for.
    async fn state(&self, options: &ListOptions) -> Result<Snapshot, ApiError> {
        let store = &self.core.store;
        match (options.version, options.version_match) {
            (None | Some(0), _) => Ok(store.snapshot()),
            (Some(wanted), VersionMatch::Exact) => {
                self.wait_for(wanted).await?;
                store.snapshot_at(wanted).map_err(|expired| {
                    ApiError::gone_expired(format!(
                        "The resourceVersion for the provided list is too old: {wanted} ({})",
                        expired.oldest
                    ))
                })
            }
            (Some(wanted), _) => self.wait_for(wanted).await,
        }
    }

    /// A state at least as new as `wanted`.
    pub(crate) async fn wait_for(&self, wanted: u64) -> Result<Snapshot, ApiError> {
        let waited = self.core.store.wait_for(wanted, WAIT).await;
        waited.map_err(|too_new| ApiError::too_large_resource_version(wanted, too_new.current))
    }

    fn resume(&self, token: &str, prefix: &str) -> Result<(Snapshot, Option<String>), ApiError> {
        let token = Token::decode(token)?;
        let after = Some(format!("{prefix}{}", token.after));
        let Ok(revision) = u64::try_from(token.revision) else {
            return Ok((self.core.store.snapshot(), after));
        };
        match self.core.store.snapshot_at(revision) {
            Ok(snapshot) => Ok((snapshot, after)),
            Err(_) => Err(ApiError::gone_expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
            )
            .with_continue(Token { revision: -1, after: token.after }.encode())),
        }
    }
}

/// The first page of those that match, at a revision.
fn page<'r>(
    revision: u64,
    mut matching: impl Iterator<Item = &'r Arc<Record>>,
    prefix: &str,
    options: &ListOptions,
) -> Page {
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let records: Vec<Arc<Record>> = matching.by_ref().take(limit).cloned().collect();
    let more = if records.len() < limit {
        0
    } else {
        usize::from(matching.next().is_some())
    };
    let next = records.last().filter(|_| more > 0).map(|last| {
        let after = last.key.as_str().strip_prefix(prefix).unwrap_or_default().to_owned();
        Token {
            revision: i64::try_from(revision).unwrap_or(i64::MAX),
            after,
        }
        .encode()
    });
    let remaining = (options.wants_all() && more > 0).then(|| 1 + matching.count());
    Page {
        revision,
        records,
        next,
        remaining,
    }
}

/// Whether a record meets the selectors, by its header alone.
pub(crate) fn matches(kind: &Kind, record: &Record, options: &ListOptions) -> bool {
    let header = &record.header;
    let label = |name: &str| {
        header
            .labels
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let field = |path: &str| {
        header
            .fields
            .iter()
            .find(|(key, _)| key == path)
            .map(|(_, value)| value.as_str())
    };
    if !options.labels.matches(label) {
        return false;
    }
    if kind.custom.is_none() || options.fields.is_everything() {
        return options.fields.matches(field);
    }
    // The fields of a custom kind change with its definition, so a header may lack some.
    let late = custom::late_fields(kind, record);
    let late = |path: &str| {
        late.iter()
            .find(|(key, _)| key == path)
            .map(|(_, value)| value.as_str())
    };
    options.fields.matches(|path| field(path).or_else(|| late(path)))
}
