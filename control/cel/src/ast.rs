//! What an expression is made of.

use crate::value::Val;

/// What is wrong at a place of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The offset in bytes.
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// A part of an expression with its place.
#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub(crate) at: usize,
    pub(crate) node: Node,
    /// How many parts lie within each other here: checking and evaluating go as deep.
    pub(crate) depth: usize,
}

impl Expr {
    pub(crate) fn new(at: usize, node: Node) -> Self {
        let mut below = 0;
        node.each_part(&mut |part| below = below.max(part.depth));
        Self {
            at,
            node,
            depth: below + 1,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Literal(Val<'static>),
    Name(String),
    /// `of.field`, `of.?field`.
    Select {
        of: Box<Expr>,
        field: String,
        optional: bool,
    },
    /// `has(of.field)`.
    Has {
        of: Box<Expr>,
        field: String,
    },
    /// `of[key]`, `of[?key]`.
    Index {
        of: Box<Expr>,
        key: Box<Expr>,
        optional: bool,
    },
    /// `name(arguments)` or `target.name(arguments)`.
    Call {
        name: String,
        target: Option<Box<Expr>>,
        arguments: Vec<Expr>,
    },
    Unary {
        operator: Unary,
        of: Box<Expr>,
    },
    Binary {
        operator: Binary,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// `when ? yes : no`.
    If {
        when: Box<Expr>,
        yes: Box<Expr>,
        no: Box<Expr>,
    },
    /// Items; optional ones are left out when they have no value.
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    /// `Type{field: value}`; optional fields are left out when they have no value.
    Message {
        name: String,
        fields: Vec<(String, Expr, bool)>,
    },
    /// A macro over the items of a list or the keys of a map.
    Each {
        each: Each,
        of: Box<Expr>,
        first: String,
        second: Option<String>,
        filter: Option<Box<Expr>>,
        body: Box<Expr>,
    },
    /// `cel.bind(name, value, body)`, and `value.optMap(name, body)`.
    Bind {
        name: String,
        value: Box<Expr>,
        body: Box<Expr>,
        optional: Option<Optional>,
    },
}

impl Node {
    /// Shows the parts that lie directly within.
    fn each_part<'n>(&'n self, see: &mut impl FnMut(&'n Expr)) {
        match self {
            Self::Literal(_) | Self::Name(_) => {}
            Self::Select { of, .. } | Self::Has { of, .. } | Self::Unary { of, .. } => see(of),
            Self::Index {
                of: one, key: other, ..
            }
            | Self::Binary {
                left: one,
                right: other,
                ..
            }
            | Self::Bind {
                value: one,
                body: other,
                ..
            } => [one, other].into_iter().for_each(|part| see(part)),
            Self::Call { target, arguments, .. } => target.as_deref().into_iter().chain(arguments).for_each(see),
            Self::If { when, yes, no } => [when, yes, no].into_iter().for_each(|part| see(part)),
            Self::List(items) => items.iter().for_each(|(item, _)| see(item)),
            Self::Map(entries) => entries
                .iter()
                .for_each(|(key, value, _)| [key, value].into_iter().for_each(&mut *see)),
            Self::Message { fields, .. } => fields.iter().for_each(|(_, value, _)| see(value)),
            Self::Each { of, filter, body, .. } => {
                see(of);
                filter.as_deref().into_iter().for_each(&mut *see);
                see(body);
            }
        }
    }
}

/// What a bound optional's body gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Optional {
    /// A value, which becomes an optional.
    Value,
    /// An optional.
    Flat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unary {
    Not,
    Negate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    And,
    Or,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Binary {
    /// The operator's name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::And => "_&&_",
            Self::Or => "_||_",
            Self::Equal => "_==_",
            Self::NotEqual => "_!=_",
            Self::Less => "_<_",
            Self::LessOrEqual => "_<=_",
            Self::Greater => "_>_",
            Self::GreaterOrEqual => "_>=_",
            Self::In => "@in",
            Self::Add => "_+_",
            Self::Subtract => "_-_",
            Self::Multiply => "_*_",
            Self::Divide => "_/_",
            Self::Modulo => "_%_",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Each {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformList,
    TransformMap,
    /// The body gives a map of the entries to add.
    TransformMapEntry,
}
