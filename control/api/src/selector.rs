//! Label selectors and field selectors: reading them, and deciding what they match.

mod field;
mod label;

pub use self::field::{FieldOperator, FieldSelector};
pub use self::label::{LabelSelector, Operator, Requirement};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn label<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<&'a str> {
        move |key| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    #[test]
    fn label_selectors_match_as_in_kubernetes() {
        let labels = [("app", "web"), ("tier", "a"), ("n", "5")];
        let cases = [
            ("", true),
            (" ", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web", true),
            ("app!=web", false),
            ("none!=x", true),
            ("app in (web, api)", true),
            ("app in(api)", false),
            ("app notin (api)", true),
            ("none notin (x)", true),
            ("app,tier", true),
            ("!app", false),
            ("!none", true),
            ("app=web,tier in (b,c)", false),
            ("app in (web,api),tier=a", true),
            ("n>4", true),
            ("n<5", false),
            ("app=", false),
        ];
        for (text, matches) in cases {
            assert_eq!(
                LabelSelector::parse(text).unwrap().matches(label(&labels)),
                matches,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_selector_is_a_bad_request() {
        for text in [
            "a b", "=x", "a in x", "a in (x", ",", "a=b,", "a=b c", "a>x", "-a", "a=b=c",
        ] {
            assert_eq!(LabelSelector::parse(text).map_err(|e| e.code), Err(400), "{text}");
        }
        for text in ["metadata.name", "a=b=c", "a=\\x", "x y"] {
            assert_eq!(FieldSelector::parse(text).map_err(|e| e.code), Err(400), "{text}");
        }
    }

    #[test]
    fn selector_objects_match_nothing_when_absent_and_all_when_empty() {
        assert!(!LabelSelector::from_object(&Value::Null).unwrap().matches(label(&[])));
        assert!(LabelSelector::from_object(&json!({})).unwrap().is_everything());
        let both = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["b"]}]});
        let selector = LabelSelector::from_object(&both).unwrap();
        assert!(selector.matches(label(&[("app", "web")])));
        assert!(!selector.matches(label(&[("app", "web"), ("tier", "b")])));
        assert_eq!(selector.to_string(), "app=web,tier!=b");
        assert!(LabelSelector::from_object(&json!({"matchExpressions": [{"key": "a", "operator": "In"}]})).is_err());
    }

    #[test]
    fn field_selectors_compare_and_unescape() {
        let fields = [("spec.nodeName", "a,b"), ("status.phase", "Running")];
        for (text, matches) in [
            ("", true),
            ("status.phase=Running", true),
            ("status.phase!=Running", false),
            (r"spec.nodeName=a\,b", true),
            ("x=", true),
        ] {
            let selector = FieldSelector::parse(text).unwrap();
            assert_eq!(selector.matches(label(&fields)), matches, "{text}");
            assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
        }
    }

    proptest! {
        #[test]
        fn a_printed_selector_reads_back(text in "[a-c!=() in,<>1]{0,20}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
            }
        }
    }
}
