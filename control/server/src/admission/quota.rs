//! ResourceQuotas: how much a namespace may hold, charged in the same transaction as the write that takes it.
//!
//! What is used stands in the status of each quota. A write that changes what is used writes that status too, on the
//! condition that nobody else has meanwhile: either both happen or neither, so two writers can never both take the last
//! piece. A quota that does not know yet what is used is filled from the namespace's objects first. A namespace without
//! quotas costs one look-up.

use std::collections::HashSet;

use coracle_api::kinds::Kind;
use coracle_api::object;
use coracle_api::quantity::Quantity;
use coracle_api::quota::amounts::{self, Amounts};
use coracle_api::quota::{scopes, usage};
use coracle_api::status::ApiError;
use coracle_store::{Change, Expect, Key, Record, Snapshot};
use serde_json::Value;

use super::Request;
use crate::document;
use crate::registry::Scope;

const PREFIX: &str = "resourcequotas/";

/// One quota that has to be charged.
pub(crate) struct Charge {
    pub(crate) key: Key,
    pub(crate) expect: Expect,
    pub(crate) change: Change,
}

/// Whether a namespace has quotas at all.
pub(crate) fn applies(snapshot: &Snapshot, namespace: &str) -> bool {
    !namespace.is_empty() && snapshot.range(&format!("{PREFIX}{namespace}/"), None).next().is_some()
}

/// What the quotas of the namespace are charged when an object changes from `old` to `new`; 403 when one would be exceeded.
pub(crate) fn charges(
    scope: &Scope<'_>,
    snapshot: &Snapshot,
    name: &str,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Result<Vec<Charge>, ApiError> {
    let mut charges = Vec::new();
    let prefix = format!("{PREFIX}{}/", scope.namespace.unwrap_or_default());
    // A quota counts quotas too, but charging itself would be a second write of the same object.
    let own = scope.key(name);
    for record in snapshot.range(&prefix, None).filter(|record| record.key != own) {
        let quota = document::tree(record)?;
        if let Some(charge) = charge(scope, snapshot, name, record, quota, (old, new))? {
            charges.push(charge);
        }
    }
    Ok(charges)
}

fn charge(
    scope: &Scope<'_>,
    snapshot: &Snapshot,
    name: &str,
    record: &Record,
    mut quota: Value,
    (old, new): (Option<&Value>, Option<&Value>),
) -> Result<Option<Charge>, ApiError> {
    let hard = amounts::read(&quota, "spec.hard");
    let measure = |object: Option<&Value>| match object {
        Some(object) if scopes::matches(&quota, scope.kind, object) => usage::of(scope.kind, object, &hard),
        _ => Amounts::new(),
    };
    let (before, after) = (measure(old), measure(new));
    if let (None, Some(object)) = (old, new)
        && scopes::matches(&quota, scope.kind, object)
    {
        demand(scope, name, &quota, &hard, object)?;
    }
    let delta = difference(&before, &after);
    if delta.is_empty() {
        return Ok(None);
    }
    let mut used = known(snapshot, &quota, &hard);
    refuse(scope, name, &quota, &delta, &used, &hard)?;
    for (name, change) in &delta {
        let known = used.entry(name.clone()).or_insert(Quantity::ZERO);
        *known = *known + *change;
        if known.is_negative() {
            *known = Quantity::ZERO;
        }
    }
    object::set(&mut quota, "status.hard", amounts::write(&hard));
    object::set(&mut quota, "status.used", amounts::write(&used));
    let row = document::kinds()
        .find("", "v1", "resourcequotas")
        .ok_or_else(|| ApiError::internal("there is no kind of quotas"))?;
    Ok(Some(Charge {
        key: record.key.clone(),
        expect: Expect::Revision(record.revision),
        change: Change::Put {
            key: record.key.clone(),
            body: document::body(&quota, None)?,
            header: document::header(row, &quota),
        },
    }))
}

fn difference(before: &Amounts, after: &Amounts) -> Amounts {
    let zero = Quantity::ZERO;
    let names = before.keys().chain(after.keys());
    let mut delta = Amounts::new();
    for name in names {
        let (from, to) = (before.get(name).unwrap_or(&zero), after.get(name).unwrap_or(&zero));
        let change = *to - *from;
        if !change.is_zero() {
            delta.insert(name.clone(), change);
        }
    }
    delta
}

/// What is used as the quota knows it; what it does not know is counted.
fn known(snapshot: &Snapshot, quota: &Value, hard: &Amounts) -> Amounts {
    let mut used = amounts::read(quota, "status.used");
    used.retain(|name, _| hard.contains_key(name));
    if hard.keys().all(|name| used.contains_key(name)) {
        return used;
    }
    let counted = count(snapshot, quota, hard);
    for name in hard
        .keys()
        .filter(|name| !used.contains_key(*name))
        .cloned()
        .collect::<Vec<_>>()
    {
        let amount = counted.get(&name).copied().unwrap_or(Quantity::ZERO);
        used.insert(name, amount);
    }
    used
}

/// Counts what the namespace holds.
fn count(snapshot: &Snapshot, quota: &Value, hard: &Amounts) -> Amounts {
    let namespace = object::namespace(quota);
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Quantity::ZERO)).collect();
    // Two versions of a kind are the same objects.
    let mut seen = HashSet::new();
    let kinds = document::kinds()
        .iter()
        .filter(|kind| seen.insert(kind.group_resource().to_string()));
    for kind in kinds.filter(|kind| kind.namespaced && kind.is_stored() && usage::concerns(kind, hard)) {
        for record in snapshot.range(&document::prefix_in(kind, Some(namespace)), None) {
            if let Ok(object) = document::tree(record)
                && scopes::matches(quota, kind, &object)
            {
                amounts::add(&mut used, &usage::of(kind, &object, hard));
            }
        }
    }
    used
}

/// Gives a quota that is new or changed its status.
pub(super) fn status(request: &Request<'_>, quota: &mut Value, _: &mut Vec<String>) {
    let hard = |quota: &Value| object::get(quota, "spec.hard").cloned();
    if request.old.is_some_and(|old| hard(old) == hard(quota)) {
        return;
    }
    let limits = amounts::read(quota, "spec.hard");
    let used = count(request.snapshot, quota, &limits);
    object::set(quota, "status.hard", amounts::write(&limits));
    object::set(quota, "status.used", amounts::write(&used));
}

/// Under a quota of amounts, every container has to say what it takes.
fn demand(scope: &Scope<'_>, name: &str, quota: &Value, hard: &Amounts, object: &Value) -> Result<(), ApiError> {
    let missing = usage::unsaid(scope.kind, object, hard);
    if missing.is_empty() {
        return Ok(());
    }
    let words = format!(
        "failed quota: {}: must specify {}",
        object::name(quota),
        missing.join("; ")
    );
    Err(ApiError::forbidden(&scope.kind.group_resource(), name, &words))
}

fn refuse(
    scope: &Scope<'_>,
    name: &str,
    quota: &Value,
    delta: &Amounts,
    used: &Amounts,
    hard: &Amounts,
) -> Result<(), ApiError> {
    let zero = Quantity::ZERO;
    let exceeded: Vec<&String> = delta
        .iter()
        .filter(|(name, change)| {
            let used = used.get(*name).copied().unwrap_or(zero);
            **change > zero && hard.get(*name).is_some_and(|limit| used + **change > *limit)
        })
        .map(|(name, _)| name)
        .collect();
    if exceeded.is_empty() {
        return Ok(());
    }
    let printed = |amounts: &Amounts| -> String {
        let amount = |name: &&String| format!("{name}={}", amounts.get(*name).unwrap_or(&zero));
        exceeded.iter().map(amount).collect::<Vec<_>>().join(",")
    };
    let words = format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        object::name(quota),
        printed(delta),
        printed(used),
        printed(hard)
    );
    Err(ApiError::forbidden(&scope.kind.group_resource(), name, &words))
}

/// Whether a write of this kind can change what is used: events come and go too often to be counted.
pub(crate) fn counts(kind: &Kind) -> bool {
    kind.namespaced && kind.kind != "Event" && kind.group != "coordination.k8s.io"
}
