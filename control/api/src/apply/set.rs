//! Sets of fields of an object, as trees.

use super::path::Element;
use std::collections::BTreeMap;

/// A set of paths. A path can belong to the set without the paths below it, and they without it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Set(BTreeMap<Element, Node>);

/// What a set says of one step.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Node {
    /// The path that ends here belongs to the set.
    pub member: bool,
    /// The paths that go on.
    pub below: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl Set {
    /// Whether no path belongs to the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the set says of a step, given as its text.
    pub fn get(&self, element: &str) -> Option<&Node> {
        self.0.get(element)
    }

    /// The steps from here, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Element, &Node)> {
        self.0.iter()
    }

    /// Adds the path that ends with this step.
    pub fn insert(&mut self, element: Element) {
        self.0.entry(element).or_default().member = true;
    }

    /// Adds paths below a step.
    pub fn insert_below(&mut self, element: Element, below: Set) {
        if !below.is_empty() {
            self.0.entry(element).or_default().below.unite(&below);
        }
    }

    /// Adds a step with what the set says of it.
    pub(super) fn insert_node(&mut self, element: &Element, node: Node) {
        if !node.is_empty() {
            self.0.insert(element.clone(), node);
        }
    }

    /// Forgets a step and all that is below it.
    pub fn forget(&mut self, element: &str) {
        self.0.remove(element);
    }

    /// Keeps only the steps that the rule wants, with what is below them.
    pub fn keep(&mut self, element: &str, rule: impl Fn(&Element) -> bool) {
        if let Some(node) = self.0.get_mut(element) {
            node.below.0.retain(|step, _| rule(step));
            if node.is_empty() {
                self.0.remove(element);
            }
        }
    }

    /// Adds all paths of another set.
    pub fn unite(&mut self, other: &Set) {
        for (element, theirs) in &other.0 {
            match self.0.get_mut(element) {
                Some(ours) => {
                    ours.member |= theirs.member;
                    ours.below.unite(&theirs.below);
                }
                None => {
                    self.0.insert(element.clone(), theirs.clone());
                }
            }
        }
    }

    /// The paths of either set.
    pub fn union(mut self, other: &Set) -> Set {
        self.unite(other);
        self
    }

    /// Removes the paths of another set. Paths below them stay, unless they are in it themselves.
    pub fn subtract(&mut self, other: &Set) {
        for (element, theirs) in &other.0 {
            if let Some(ours) = self.0.get_mut(element) {
                ours.member &= !theirs.member;
                ours.below.subtract(&theirs.below);
                if ours.is_empty() {
                    self.0.remove(element);
                }
            }
        }
    }

    /// The paths of this set that the other has not.
    pub fn difference(mut self, other: &Set) -> Set {
        self.subtract(other);
        self
    }

    /// The paths of both sets.
    pub fn intersection(&self, other: &Set) -> Set {
        let mut both = Set::default();
        for (element, ours) in &self.0 {
            if let Some(theirs) = other.0.get(element) {
                let node = Node {
                    member: ours.member && theirs.member,
                    below: ours.below.intersection(&theirs.below),
                };
                both.insert_node(element, node);
            }
        }
        both
    }

    /// All paths as they read in messages: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut String, paths: &mut Vec<String>) {
        use std::fmt::Write;
        for (element, node) in &self.0 {
            let length = prefix.len();
            // Writing to a string cannot fail.
            let _ = write!(prefix, "{element}");
            if node.member {
                paths.push(prefix.clone());
            }
            node.below.collect_paths(prefix, paths);
            prefix.truncate(length);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_set() -> impl Strategy<Value = Set> {
        let paths = prop::collection::vec(prop::collection::vec("[a-c]", 1..4), 0..8);
        paths.prop_map(|paths| {
            let mut set = Set::default();
            for path in paths {
                let mut at = &mut set;
                for (depth, name) in path.iter().enumerate() {
                    let node = at.0.entry(Element::field(name)).or_default();
                    node.member |= depth + 1 == path.len();
                    at = &mut node.below;
                }
            }
            set
        })
    }

    proptest! {
        #[test]
        fn the_laws_of_sets(a in any_set(), b in any_set(), c in any_set()) {
            let union = |x: &Set, y: &Set| x.clone().union(y);
            let minus = |x: &Set, y: &Set| x.clone().difference(y);
            prop_assert_eq!(union(&a, &b), union(&b, &a));
            prop_assert_eq!(a.intersection(&b), b.intersection(&a));
            prop_assert_eq!(union(&a, &a), a.clone());
            prop_assert!(minus(&a, &a).is_empty());
            prop_assert_eq!(union(&minus(&a, &b), &a.intersection(&b)), a.clone());
            prop_assert!(minus(&a, &b).intersection(&b).is_empty());
            prop_assert_eq!(minus(&a, &union(&b, &c)), minus(&minus(&a, &b), &c));
            prop_assert_eq!(a.intersection(&union(&b, &c)), union(&a.intersection(&b), &a.intersection(&c)));
        }

        #[test]
        fn a_set_is_its_paths(a in any_set(), b in any_set()) {
            prop_assert_eq!(a == b, a.paths() == b.paths());
            let both: Vec<String> = a.paths().into_iter().filter(|path| b.paths().contains(path)).collect();
            prop_assert_eq!(a.intersection(&b).paths(), both);
        }
    }
}
