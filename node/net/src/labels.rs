//! Label selectors, as policies use them. Pure.

use std::collections::BTreeMap;

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// What labels must be; without requirements every object is selected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// All of these must hold.
    pub requirements: Vec<LabelRequirement>,
}

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRequirement {
    /// The label's key.
    pub key: String,
    /// What its value must be.
    pub value: LabelValue,
}

/// What the value of a label must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelValue {
    /// The label exists with one of these values.
    In(Vec<String>),
    /// The label does not exist or has none of these values.
    NotIn(Vec<String>),
    /// The label exists.
    Exists,
    /// The label does not exist.
    Absent,
}

impl LabelSelector {
    /// Selects what has the label with this value, besides what is required already.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.requirements.push(LabelRequirement {
            key: key.to_owned(),
            value: LabelValue::In(vec![value.to_owned()]),
        });
        self
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.value {
                LabelValue::In(wanted) => value.is_some_and(|value| wanted.contains(value)),
                LabelValue::NotIn(unwanted) => value.is_none_or(|value| !unwanted.contains(value)),
                LabelValue::Exists => value.is_some(),
                LabelValue::Absent => value.is_none(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_requirement_selects() {
        let some = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        let table = [
            (LabelValue::In(some(&["a", "b"])), [false, true, false]),
            (LabelValue::NotIn(some(&["a", "b"])), [true, false, true]),
            (LabelValue::Exists, [false, true, true]),
            (LabelValue::Absent, [true, false, false]),
        ];
        let labelled = |value: &str| Labels::from([("app".to_owned(), value.to_owned())]);
        for (value, expected) in table {
            let requirement = LabelRequirement {
                key: "app".into(),
                value,
            };
            let selector = LabelSelector {
                requirements: vec![requirement],
            };
            let found = [Labels::new(), labelled("a"), labelled("c")].map(|labels| selector.matches(&labels));
            assert_eq!(found, expected, "{selector:?}");
        }
        assert!(LabelSelector::default().matches(&Labels::new()));
        assert!(
            !LabelSelector::default()
                .with("app", "a")
                .with("tier", "x")
                .matches(&labelled("a"))
        );
    }
}
