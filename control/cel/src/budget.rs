//! What evaluation may cost.

use regex::Regex;

use crate::check::Patterns;
use crate::eval::EvalError;
use crate::texts;

/// What compiling a pattern costs that is no literal: the time of so many steps.
const PATTERN_COST: u64 = 5_000;

/// How much an evaluation may cost. A step costs one unit; what looks at a whole text or list costs more, and so does what
/// makes one, so that a budget bounds memory too.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    left: u64,
    /// Patterns that have been paid for.
    patterns: Patterns,
}

impl Budget {
    /// A budget of so many units.
    pub fn new(units: u64) -> Self {
        Self {
            left: units,
            patterns: Patterns::new(),
        }
    }

    /// What is left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The same, as far as one evaluation may go that has a limit of its own.
    pub fn limited(&self, units: u64) -> Self {
        Self::new(units.min(self.left))
    }

    /// A pattern, compiled once.
    pub(crate) fn pattern(&mut self, text: &str) -> Result<Regex, EvalError> {
        if let Some(known) = self.patterns.get(text) {
            return Ok(known.clone());
        }
        self.pay(PATTERN_COST + text.len() as u64)?;
        let made = texts::compile(text).map_err(EvalError::Wrong)?;
        self.patterns.insert(text.to_owned(), made.clone());
        Ok(made)
    }

    /// Takes units away.
    ///
    /// # Errors
    /// When there are fewer; none are left then.
    pub fn pay(&mut self, units: u64) -> Result<(), EvalError> {
        match self.left.checked_sub(units) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(EvalError::OutOfBudget)
            }
        }
    }
}
