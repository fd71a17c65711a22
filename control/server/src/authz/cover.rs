//! Whether some rules give everything that others give.
//!
//! A wanted rule is taken apart into its smallest pieces: one verb of one resource (or path) each. A piece is covered when
//! one of the own rules covers it alone.

use std::fmt;

use super::rules::Rule;

impl Rule {
    /// Every verb on every resource.
    pub(crate) fn everything() -> Self {
        let all = || vec!["*".to_owned()];
        Self {
            verbs: all(),
            groups: all(),
            resources: all(),
            ..Self::default()
        }
    }

    /// Every verb on every path.
    pub(crate) fn every_path() -> Self {
        let all = || vec!["*".to_owned()];
        Self {
            verbs: all(),
            paths: all(),
            ..Self::default()
        }
    }

    /// The smallest rules that together say the same.
    fn pieces(&self) -> Vec<Rule> {
        let one = |text: &String| vec![text.clone()];
        let mut pieces = Vec::new();
        for verb in &self.verbs {
            for path in &self.paths {
                pieces.push(Rule {
                    verbs: one(verb),
                    paths: one(path),
                    ..Rule::default()
                });
            }
            for group in &self.groups {
                for resource in &self.resources {
                    let piece = Rule {
                        verbs: one(verb),
                        groups: one(group),
                        resources: one(resource),
                        ..Rule::default()
                    };
                    if self.names.is_empty() {
                        pieces.push(piece);
                    } else {
                        let named = |name| Rule {
                            names: one(name),
                            ..piece.clone()
                        };
                        pieces.extend(self.names.iter().map(named));
                    }
                }
            }
        }
        pieces
    }

    fn covers(&self, piece: &Rule) -> bool {
        let listed = |own: &[String], wanted: &[String]| {
            own.iter().any(|item| item == "*") || wanted.iter().all(|item| own.contains(item))
        };
        let path = |wanted: &String| {
            self.paths.iter().any(|own| match own.strip_suffix('*') {
                Some(start) => wanted.starts_with(start),
                None => own == wanted,
            })
        };
        let resource = |wanted: &String| {
            self.resources.iter().any(|own| {
                own == "*" || own == wanted || {
                    let part = wanted.split_once('/').map(|(_, part)| part);
                    part.is_some() && own.strip_prefix("*/") == part
                }
            })
        };
        let names = self.names.is_empty() || (!piece.names.is_empty() && listed(&self.names, &piece.names));
        listed(&self.verbs, &piece.verbs)
            && piece.paths.iter().all(path)
            && listed(&self.groups, &piece.groups)
            && piece.resources.iter().all(resource)
            && names
    }
}

/// The pieces of `wanted` that none of `own` covers.
pub(crate) fn uncovered(own: &[&Rule], wanted: &[Rule]) -> Vec<Rule> {
    let pieces = wanted.iter().flat_map(Rule::pieces);
    let missing = pieces.filter(|piece| !own.iter().any(|rule| rule.covers(piece)));
    missing.collect()
}

/// As Kubernetes prints a rule: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.names),
            ("NonResourceURLs", &self.paths),
            ("Verbs", &self.verbs),
        ];
        let lists = lists.iter().filter(|(_, items)| !items.is_empty());
        let texts: Vec<String> = lists
            .map(|(name, items)| {
                let items: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
                format!("{name}:[{}]", items.join(" "))
            })
            .collect();
        write!(f, "{{{}}}", texts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let texts = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        Rule {
            verbs: texts(verbs),
            groups: texts(groups),
            resources: texts(resources),
            names: texts(names),
            paths: Vec::new(),
        }
    }

    #[test]
    fn pieces_may_be_covered_by_different_rules() {
        let get = rule(&["get"], &[""], &["pods"], &[]);
        let list = rule(&["list"], &[""], &["pods"], &[]);
        let wanted = [rule(&["get", "list"], &[""], &["pods"], &[])];
        assert!(uncovered(&[&get, &list], &wanted).is_empty());
        let missing = uncovered(&[&get], &wanted);
        assert_eq!(missing.len(), 1);
        assert_eq!(
            missing[0].to_string(),
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["list"]}"#
        );
    }

    #[test]
    fn a_right_to_one_name_is_no_right_to_all() {
        let one = rule(&["get"], &[""], &["pods"], &["a"]);
        let all = rule(&["get"], &[""], &["pods"], &[]);
        assert!(!uncovered(&[&one], std::slice::from_ref(&all)).is_empty());
        assert!(uncovered(&[&all], std::slice::from_ref(&one)).is_empty());
        let parts = rule(&["get"], &[""], &["*/status"], &[]);
        assert!(uncovered(&[&parts], &[rule(&["get"], &[""], &["pods/status"], &[])]).is_empty());
        assert!(!uncovered(&[&parts], &[rule(&["get"], &[""], &["pods"], &[])]).is_empty());
        assert!(!uncovered(&[&all], &[Rule::every_path()]).is_empty());
        assert!(
            uncovered(
                &[&Rule::every_path()],
                &[Rule {
                    paths: vec!["/x".into()],
                    verbs: vec!["get".into()],
                    ..Rule::default()
                }]
            )
            .is_empty()
        );
    }

    proptest! {
        #[test]
        fn everybody_covers_themselves(verbs in prop::collection::vec("[a-c*]", 1..3), resources in prop::collection::vec("[a-c]|\\*|[ab]/[ab]", 1..3)) {
            let texts = |items: &[String]| items.to_vec();
            let own = Rule { verbs: texts(&verbs), groups: vec!["".into()], resources: texts(&resources), ..Rule::default() };
            prop_assert!(uncovered(&[&own], std::slice::from_ref(&own)).is_empty());
            prop_assert!(uncovered(&[&Rule::everything()], std::slice::from_ref(&own)).is_empty());
        }
    }
}
