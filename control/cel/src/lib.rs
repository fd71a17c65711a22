//! The Common Expression Language as Kubernetes uses it: parsed and checked once, evaluated often, never for long.
//!
//! An expression is compiled against the names that it may use ([`Names`]); what it asks of fields and functions that do
//! not exist is refused then, with the place. Evaluation reads JSON where it lies, allocates for what it makes, and pays
//! for every step from a [`Budget`], so that no expression can run for ever or eat all memory. Nothing here panics on any
//! input, and nothing reads a clock or waits.

mod arithmetic;
mod ast;
mod budget;
mod check;
mod cost;
mod eval;
mod functions;
mod kind;
mod lex;
mod library;
mod network;
mod parse;
mod texts;
mod time;
mod value;

pub use budget::Budget;
pub use check::Names;
pub use cost::Extent;
pub use eval::{EvalError, Scope};
pub use kind::{Kind, Object, escape};
pub use library::{Call, Function, Library, Takes};
pub use value::{Foreign, Val};

use thiserror::Error;

/// The longest expression, in bytes: what Kubernetes' largest rules need, many times over.
pub const SOURCE_LIMIT_BYTES: usize = 64 * 1024;

/// Why an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompileError {
    /// It is not of the language, or asks for what does not exist.
    #[error("ERROR: <input>:{line}:{column}: {message}\n | {text}\n | {marker}")]
    At {
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// The line itself.
        text: String,
        /// A caret below the place.
        marker: String,
    },
    /// It is too long.
    #[error("expression is longer than {SOURCE_LIMIT_BYTES} bytes")]
    TooLong,
}

impl CompileError {
    fn at(source: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = source.get(..offset).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let text = source.lines().nth(line - 1).unwrap_or_default().to_owned();
        Self::At {
            line,
            column,
            message: message.into(),
            marker: format!("{}^", ".".repeat(column - 1)),
            text,
        }
    }
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Program {
    source: String,
    expr: ast::Expr,
    kind: Kind,
    used: Vec<String>,
    patterns: check::Patterns,
    libraries: &'static [&'static Library],
}

impl Program {
    /// Parses and checks an expression.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn compile(source: &str, names: &Names) -> Result<Self, CompileError> {
        if source.len() > SOURCE_LIMIT_BYTES {
            return Err(CompileError::TooLong);
        }
        let fail = |fault: ast::Fault| CompileError::at(source, fault.at, fault.message);
        let expr = parse::parse(source).map_err(fail)?;
        let mut checker = check::Checker::new(names);
        let kind = checker.check(&expr).map_err(fail)?;
        let (used, patterns) = checker.into_found();
        Ok(Self {
            source: source.to_owned(),
            expr,
            kind,
            used,
            patterns,
            libraries: names.libraries(),
        })
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The kind of its value, as far as it is known.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Whether it uses a variable.
    pub fn uses(&self, name: &str) -> bool {
        self.used.iter().any(|used| used == name)
    }

    /// Evaluates it alone, with variables.
    ///
    /// # Errors
    /// What went wrong, or that the budget is used up.
    pub fn eval<'a>(&self, variables: &[(&str, Val<'a>)], budget: &mut Budget) -> Result<Val<'a>, EvalError> {
        Scope::new(variables.iter().cloned()).eval(self, budget)
    }
}

#[cfg(test)]
mod tests;
