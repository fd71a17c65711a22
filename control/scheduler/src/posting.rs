//! Finds questions about pods by the pods that they ask about, and pods by the questions, without looking at all.
//!
//! A question names a namespace or none, and mostly a label that must have one certain value; it is posted under a key
//! made of these. A pod looks under the few keys that its own namespace and labels make. Keys are hashes: what is found
//! is what *may* be meant, and has to be looked at.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
};

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

/// Where something is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Post(u64);

impl Post {
    /// The place of questions about pods in that namespace (or in any), with that label (or with no label in particular).
    #[must_use]
    pub fn of(namespace: Option<&str>, label: Option<(&str, &str)>) -> Self {
        Self(hash(&(0_u8, namespace, label)))
    }

    /// The place of questions about the pods of one controller.
    #[must_use]
    pub fn of_controller(uid: &str) -> Self {
        Self(hash(&(1_u8, uid)))
    }

    /// The places where a question that means a pod with these labels may be posted.
    pub fn all<'a>(
        namespace: &'a str,
        labels: Option<&'a BTreeMap<String, String>>,
        controller: &'a str,
    ) -> impl Iterator<Item = Self> + 'a {
        Self::within(Some(namespace), labels)
            .chain(Self::within(None, labels))
            .chain((!controller.is_empty()).then(|| Self::of_controller(controller)))
    }

    /// The places that name this namespace.
    pub fn within<'a>(
        namespace: Option<&'a str>,
        labels: Option<&'a BTreeMap<String, String>>,
    ) -> impl Iterator<Item = Self> + 'a {
        let labelled = labels
            .into_iter()
            .flatten()
            .map(move |(name, value)| Self::of(namespace, Some((name, value))));
        std::iter::once(Self::of(namespace, None)).chain(labelled)
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    what.hash(&mut hasher);
    hasher.finish()
}

/// What is posted where.
#[derive(Clone, Debug)]
pub struct Postings<T> {
    posted: FxHashMap<Post, FxHashSet<T>>,
}

impl<T> Default for Postings<T> {
    fn default() -> Self {
        Self {
            posted: FxHashMap::default(),
        }
    }
}

impl<T: Copy + Eq + Hash> Postings<T> {
    /// Posts it there too.
    pub fn add(&mut self, post: Post, what: T) {
        self.posted.entry(post).or_default().insert(what);
    }

    /// Takes it away from there.
    pub fn remove(&mut self, post: Post, what: T) {
        if let Some(here) = self.posted.get_mut(&post) {
            here.remove(&what);
            if here.is_empty() {
                self.posted.remove(&post);
            }
        }
    }

    /// What is posted there.
    pub fn get(&self, post: Post) -> impl Iterator<Item = T> + '_ {
        self.posted.get(&post).into_iter().flatten().copied()
    }

    /// Whether nothing is posted anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.posted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_finds_the_questions_that_may_mean_it() {
        let labels = BTreeMap::from([
            ("app".to_owned(), "web".to_owned()),
            ("tier".to_owned(), "a".to_owned()),
        ]);
        let mut postings = Postings::default();
        postings.add(Post::of(Some("n"), Some(("app", "web"))), 1);
        postings.add(Post::of(None, Some(("tier", "a"))), 2);
        postings.add(Post::of(Some("n"), None), 3);
        postings.add(Post::of(Some("m"), Some(("app", "web"))), 4);
        postings.add(Post::of(Some("n"), Some(("app", "db"))), 5);
        postings.add(Post::of_controller("u"), 6);
        let mut found: Vec<i32> = Post::all("n", Some(&labels), "u")
            .flat_map(|post| postings.get(post))
            .collect();
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3, 6]);
        for (post, what) in [
            (Post::of(Some("n"), Some(("app", "web"))), 1),
            (Post::of(None, Some(("tier", "a"))), 2),
            (Post::of(Some("n"), None), 3),
            (Post::of(Some("m"), Some(("app", "web"))), 4),
            (Post::of(Some("n"), Some(("app", "db"))), 5),
            (Post::of_controller("u"), 6),
        ] {
            postings.remove(post, what);
        }
        assert!(postings.is_empty());
    }
}
