//! What an apply would take from other managers, and how that is said.

use super::set::Set;
use crate::status::{ApiError, Cause, Details};

/// A manager from whom fields would be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The manager in words: `"kubectl" using apps/v1`.
    pub manager: String,
    /// The fields.
    pub fields: Set,
}

/// All that stands against an apply.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Conflicts(pub Vec<Conflict>);

/// A manager in words, as in messages.
pub fn describe(manager: &str, operation: &str, api_version: &str, subresource: &str) -> String {
    let mut words = format!("{manager:?}");
    if !subresource.is_empty() {
        words.push_str(&format!(" with subresource {subresource:?}"));
    }
    if operation == "Update" {
        words.push_str(&format!(" using {api_version}"));
    }
    words
}

impl Conflicts {
    /// What is left when these fields may be taken.
    pub fn except(&self, allowed: &Set) -> Self {
        let left = self.0.iter().map(|conflict| Conflict {
            manager: conflict.manager.clone(),
            fields: conflict.fields.clone().difference(allowed),
        });
        Self(left.filter(|conflict| !conflict.fields.is_empty()).collect())
    }

    fn message(&self, count: usize) -> String {
        if let ([one], 1) = (self.0.as_slice(), count) {
            let path = one.fields.paths().concat();
            return format!("Apply failed with 1 conflict: conflict with {}: {path}", one.manager);
        }
        let mut lines = Vec::new();
        for conflict in &self.0 {
            lines.push(format!("conflicts with {}:", conflict.manager));
            lines.extend(conflict.fields.paths().iter().map(|path| format!("- {path}")));
        }
        format!("Apply failed with {count} conflicts: {}", lines.join("\n"))
    }

    /// The answer to the client.
    pub fn to_error(&self) -> ApiError {
        let causes: Vec<Cause> = self
            .0
            .iter()
            .flat_map(|conflict| {
                let words = format!("conflict with {}", conflict.manager);
                conflict.fields.paths().into_iter().map(move |field| Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: words.clone(),
                    field,
                })
            })
            .collect();
        let message = self.message(causes.len());
        ApiError::apply_conflict(message).with_details(Details {
            causes,
            ..Details::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::fields_v1::read;
    use serde_json::json;

    #[test]
    fn the_words_of_kubernetes() {
        let replicas = read(&json!({"f:spec": {"f:replicas": {}}})).unwrap();
        let mut conflicts = Conflicts(vec![Conflict {
            manager: describe("kubectl-client-side-apply", "Update", "apps/v1", ""),
            fields: replicas.clone(),
        }]);
        let error = conflicts.to_error();
        assert_eq!((error.code, error.reason), (409, "Conflict"));
        assert_eq!(
            error.message,
            r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#
        );
        let cause = &error.details.as_ref().unwrap().causes[0];
        assert_eq!(
            (cause.reason.as_str(), cause.message.as_str(), cause.field.as_str()),
            (
                "FieldManagerConflict",
                r#"conflict with "kubectl-client-side-apply" using apps/v1"#,
                ".spec.replicas"
            )
        );
        conflicts.0.push(Conflict {
            manager: describe("hpa", "Apply", "apps/v1", "scale"),
            fields: replicas.clone(),
        });
        assert_eq!(
            conflicts.to_error().message,
            "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.replicas\nconflicts with \"hpa\" with subresource \"scale\":\n- .spec.replicas"
        );
        assert_eq!(conflicts.except(&replicas), Conflicts::default());
    }
}
