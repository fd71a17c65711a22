//! What other crates bring to the language: types of their own and functions on them.

use crate::budget::Budget;
use crate::eval::EvalError;
use crate::kind::Kind;
use crate::value::Val;

/// A set of functions that expressions may call besides those of the language.
#[derive(Debug)]
pub struct Library {
    /// The functions. Several may share a name and differ in what they take.
    pub functions: &'static [Function],
    /// Fields of the library's types: of which type, the name, the type of the value. A field is a function that takes
    /// the value alone and has the field's name.
    pub fields: &'static [(&'static str, &'static str, &'static str)],
}

/// What a function does with values of the kinds that it takes.
pub type Call = fn(&[Val<'_>], &mut Budget) -> Result<Val<'static>, EvalError>;

/// The kind of a value that a function takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A text.
    Text,
    /// A whole number.
    Int,
    /// A value of a library's type.
    Foreign(&'static str),
}

/// One function.
#[derive(Debug)]
pub struct Function {
    /// Its name, with the first part and a dot if it has two.
    pub name: &'static str,
    /// The kinds of its values, the target first.
    pub takes: &'static [Takes],
    /// The kind of what it gives.
    pub gives: fn() -> Kind,
    /// What it does.
    pub call: Call,
}

impl Function {
    /// A function of this name, what it takes and gives, and what it does.
    pub const fn new(name: &'static str, takes: &'static [Takes], gives: fn() -> Kind, call: Call) -> Self {
        Self {
            name,
            takes,
            gives,
            call,
        }
    }

    /// Whether values of these kinds might be what the function takes.
    pub(crate) fn may_take(&self, name: &str, kinds: &[Kind]) -> bool {
        self.name == name
            && self.takes.len() == kinds.len()
            && self.takes.iter().zip(kinds).all(|(takes, kind)| match (takes, kind) {
                (_, Kind::Dyn) | (Takes::Text, Kind::Text) | (Takes::Int, Kind::Int) => true,
                (Takes::Foreign(wanted), Kind::Foreign(found)) => wanted == found,
                _ => false,
            })
    }

    /// Whether the function takes these values.
    fn takes(&self, name: &str, values: &[Val<'_>]) -> bool {
        self.name == name
            && self.takes.len() == values.len()
            && self
                .takes
                .iter()
                .zip(values)
                .all(|(takes, value)| match (takes, value) {
                    (Takes::Text, value) => value.as_text().is_some(),
                    (Takes::Int, value) => matches!(value, Val::Int(_)),
                    (Takes::Foreign(wanted), Val::Foreign(value)) => value.kind() == *wanted,
                    _ => false,
                })
    }
}

/// All functions of several libraries.
pub(crate) fn functions(libraries: &[&'static Library]) -> impl Iterator<Item = &'static Function> {
    libraries.iter().flat_map(|library| library.functions)
}

/// The function that takes these values.
pub(crate) fn find(libraries: &[&'static Library], name: &str, values: &[Val<'_>]) -> Option<&'static Function> {
    functions(libraries).find(|function| function.takes(name, values))
}

/// The type of a field of a library's type.
pub(crate) fn field(libraries: &[&'static Library], of: &str, name: &str) -> Option<&'static str> {
    let mut fields = libraries.iter().flat_map(|library| library.fields);
    fields
        .find(|(owner, field, _)| *owner == of && *field == name)
        .map(|(_, _, kind)| *kind)
}
