//! The expressions that select devices, each compiled once.

use std::{collections::HashMap, sync::Arc};

use coracle_api::policy::devices::Selector;

/// So many expressions are kept compiled: a cluster has a few classes and templates, each with a few selectors. When there
/// are more, all are compiled anew as they are met.
const SELECTORS_LIMIT: usize = 1024;

/// A compiled expression.
#[derive(Debug)]
pub struct Compiled {
    /// Tells it from all others.
    pub id: u64,
    /// It, or what is wrong with it.
    pub program: Result<Selector, String>,
}

/// All expressions that were met.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    known: HashMap<String, Arc<Compiled>>,
    last: u64,
}

impl Selectors {
    /// The compiled expression.
    pub fn get(&mut self, expression: &str) -> Arc<Compiled> {
        if let Some(known) = self.known.get(expression) {
            return known.clone();
        }
        if self.known.len() >= SELECTORS_LIMIT {
            self.known.clear();
        }
        self.last += 1;
        let compiled = Arc::new(Compiled {
            id: self.last,
            program: Selector::compile(expression),
        });
        self.known.insert(expression.to_owned(), compiled.clone());
        compiled
    }
}
