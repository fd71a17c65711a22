//! What a decision has to know that no informer tells: read live, before the decision, by the driver.
//!
//! A reconciler that needs to know more asks in its plan, and is called again with the answers; a plan that asks does
//! nothing else. So deciding stays pure, and a test gives the answers as it gives the objects.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    driver::{Failure, Turn},
    plan::Plan,
};

/// How often a reconciler may ask more because of what it was answered. The deepest chain in use is three: which kind is
/// this, how large is it, what do its pods use.
pub const ROUNDS_LIMIT: usize = 5;

/// A question to the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The path, with its query.
    pub path: String,
    /// The body of a review, which is a question that has to be posted; nothing for a read.
    pub review: Option<Value>,
}

impl Ask {
    /// Reads what is at that path.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            review: None,
        }
    }

    fn name(&self) -> String {
        match &self.review {
            Some(review) => format!("{} {review}", self.path),
            None => self.path.clone(),
        }
    }
}

/// What the server answered.
#[derive(Clone, Debug, Default)]
pub struct Answers(BTreeMap<String, Result<Value, Failure>>);

impl Answers {
    /// No answers.
    #[must_use]
    pub const fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes in an answer.
    pub fn take(&mut self, ask: &Ask, answer: Result<Value, Failure>) {
        self.0.insert(ask.name(), answer);
    }
}

impl<'a> Turn<'a> {
    /// The answer to a question; asks it, if it has not been answered yet.
    pub fn ask(&self, ask: Ask, plan: &mut Plan) -> Option<Result<&'a Value, &'a Failure>> {
        let answer = self.answers.0.get(&ask.name());
        if answer.is_none() && !plan.asks.contains(&ask) {
            plan.asks.push(ask);
        }
        Some(answer?.as_ref())
    }
}
