//! `/livez`, `/readyz` and `/healthz`: whether the server works, and whether all that it was told to wait for is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use parking_lot::RwLock;

use crate::query::Query;
use crate::respond::{self, Answer};

/// Named conditions, all of which must hold for the server to be ready.
#[derive(Default)]
pub(crate) struct Health {
    checks: RwLock<Vec<(String, Arc<AtomicBool>)>>,
    /// The parts of the control plane, by their names, and whether they work.
    components: RwLock<Vec<(String, Arc<AtomicBool>)>>,
}

/// One condition of readiness. It fails until it is set.
#[derive(Debug, Clone)]
pub struct ReadyCheck(Arc<AtomicBool>);

impl ReadyCheck {
    /// Says whether the condition holds.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }
}

impl Health {
    /// Adds a condition that does not hold yet.
    pub(crate) fn check(&self, name: &str) -> ReadyCheck {
        let state = Arc::new(AtomicBool::new(false));
        self.checks.write().push((name.to_owned(), state.clone()));
        ReadyCheck(state)
    }

    /// Adds a part of the control plane that does not work yet.
    pub(crate) fn component(&self, name: &str) -> ReadyCheck {
        let state = Arc::new(AtomicBool::new(false));
        self.components.write().push((name.to_owned(), state.clone()));
        ReadyCheck(state)
    }

    /// The parts of the control plane, and whether they work.
    pub(crate) fn components(&self) -> Vec<(String, bool)> {
        let components = self.components.read();
        let read = components.iter();
        read.map(|(name, state)| (name.clone(), state.load(Ordering::Acquire)))
            .collect()
    }

    /// Answers a health path; `None` when it is none.
    pub(crate) fn answer(&self, path: &str, query: &Query) -> Option<Answer> {
        let mut segments = path.trim_matches('/').split('/');
        let all = match segments.next()? {
            "livez" => false,
            "readyz" | "healthz" => true,
            _ => return None,
        };
        let endpoint = path.trim_matches('/').split('/').next().unwrap_or_default();
        let one = segments.next();
        let excluded: Vec<&str> = query.all("exclude").collect();
        let mut results = vec![("ping".to_owned(), true)];
        if all {
            let checks = self.checks.read();
            results.extend(
                checks
                    .iter()
                    .map(|(name, state)| (name.clone(), state.load(Ordering::Acquire))),
            );
        }
        if let Some(one) = one {
            results.retain(|(name, _)| name == one);
            if results.is_empty() {
                return Some(respond::page_not_found());
            }
        }
        results.retain(|(name, _)| !excluded.contains(&name.as_str()));
        Some(report(
            endpoint,
            &results,
            query.get("verbose").is_some() || query.flag("verbose").unwrap_or(false),
        ))
    }
}

fn report(endpoint: &str, results: &[(String, bool)], verbose: bool) -> Answer {
    let healthy = results.iter().all(|(_, ok)| *ok);
    if healthy && !verbose {
        return respond::text(StatusCode::OK, "ok");
    }
    let mut text = String::new();
    for (name, ok) in results {
        let line = if *ok {
            format!("[+]{name} ok\n")
        } else {
            format!("[-]{name} failed: not there yet\n")
        };
        text.push_str(&line);
    }
    text.push_str(&format!(
        "{endpoint} check {}\n",
        if healthy { "passed" } else { "failed" }
    ));
    respond::text(
        if healthy {
            StatusCode::OK
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        },
        text,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_waits_for_every_check() {
        let health = Health::default();
        let query = Query::default();
        let status = |path: &str| health.answer(path, &query).unwrap().status();
        assert_eq!(status("/readyz"), StatusCode::OK);
        let check = health.check("node");
        assert_eq!(status("/readyz"), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status("/livez"), StatusCode::OK);
        assert_eq!(status("/readyz/ping"), StatusCode::OK);
        assert_eq!(status("/readyz/absent"), StatusCode::NOT_FOUND);
        let without = Query::parse(Some("exclude=node"));
        assert_eq!(health.answer("/readyz", &without).unwrap().status(), StatusCode::OK);
        check.set(true);
        assert_eq!(status("/readyz"), StatusCode::OK);
        assert!(health.answer("/version", &query).is_none());
    }
}
