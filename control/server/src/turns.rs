//! Turns: writers that would only get into each other's way go one after the other.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::Mutex;

/// How many queues there are. Two namespaces that share one wait for each other now and then, which costs time and nothing
/// else; more queues than busy namespaces with quotas are of no use.
const QUEUES: usize = 64;

/// Queues by name. They are fair: who came first goes first.
pub(crate) struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..QUEUES).map(|_| Mutex::default()).collect())
    }
}

impl Turns {
    /// The queue of a name.
    pub(crate) fn of(&self, name: &str) -> &Mutex<()> {
        static ANY: Mutex<()> = Mutex::const_new(());
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let index = hasher.finish() as usize % QUEUES;
        self.0.get(index).unwrap_or(&ANY)
    }
}
