//! What an expression may cost at most, before there is anything to evaluate it on.
//!
//! The estimate follows the evaluator: it counts its steps, takes the dearer branch, and lets every macro walk over as
//! many items as its list can have. Literals, which are next to nothing, are not counted. A conversion or a look at a size
//! counts as one step though a long text makes it a few more, as in Kubernetes, so that an ordinary rule on texts without
//! a limit is not refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Program;
use crate::ast::{Binary, Each, Expr, Node};
use crate::value::Val;

/// What looking at all of the largest request costs: a request has 3 MiB, and nothing in it is less than a byte.
const REQUEST_UNITS: u64 = 3 * 1024 * 1024;

/// How large a value can be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extent {
    /// Bytes of a text, items of a list, entries of a map; for other values it says nothing.
    pub most: u64,
    /// Of items and entries.
    pub inner: Option<Arc<Extent>>,
    /// Of fields.
    pub fields: BTreeMap<String, Extent>,
}

impl Extent {
    /// A text of so many bytes at most, or a list or map of which nothing else is known.
    pub fn of(most: u64) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// A list or map of so many values at most.
    pub fn list(most: u64, inner: Extent) -> Self {
        Self {
            most,
            inner: Some(Arc::new(inner)),
            ..Self::default()
        }
    }

    fn item(&self) -> Self {
        match &self.inner {
            Some(inner) => (**inner).clone(),
            None => Self::of(self.most),
        }
    }

    fn field(&self, name: &str) -> Self {
        self.fields.get(name).cloned().unwrap_or_else(|| self.item())
    }

    /// What looking at all of it costs. However its parts multiply, it came with a request.
    fn whole(&self) -> u64 {
        let fields = self.fields.values().map(Self::whole).fold(0, u64::saturating_add);
        let all = match &self.inner {
            Some(inner) => self.most.saturating_mul(inner.whole().saturating_add(1)),
            None if self.fields.is_empty() => tenth(self.most),
            None => fields,
        };
        all.min(REQUEST_UNITS)
    }

    /// What looking at its surface costs.
    fn surface(&self) -> u64 {
        match &self.inner {
            Some(_) => self.most,
            None if self.fields.is_empty() => tenth(self.most),
            None => self.fields.len() as u64,
        }
    }
}

fn tenth(size: u64) -> u64 {
    size.div_ceil(10)
}

impl Program {
    /// The most that an evaluation may cost with variables of these extents; without end where it cannot be counted.
    pub fn estimate(&self, variables: &[(&str, Extent)]) -> u64 {
        let names = variables
            .iter()
            .map(|(name, extent)| ((*name).to_owned(), extent.clone()))
            .collect();
        Estimate { names }.of(&self.expr).0
    }
}

struct Estimate {
    names: Vec<(String, Extent)>,
}

/// A cost and the extent of the value.
type Found = (u64, Extent);

impl Estimate {
    fn of(&mut self, expr: &Expr) -> Found {
        let (cost, extent) = self.node(&expr.node);
        let own = u64::from(!matches!(expr.node, Node::Literal(_)));
        (cost.saturating_add(own), extent)
    }

    fn sum<'e>(&mut self, parts: impl IntoIterator<Item = &'e Expr>) -> (u64, Vec<Extent>) {
        let mut cost: u64 = 0;
        let mut extents = Vec::new();
        for part in parts {
            let (more, extent) = self.of(part);
            cost = cost.saturating_add(more);
            extents.push(extent);
        }
        (cost, extents)
    }

    fn node(&mut self, node: &Node) -> Found {
        match node {
            Node::Literal(value) => (0, Extent::of(value.as_text().map_or(0, |text| text.len() as u64))),
            Node::Name(name) => {
                let known = self.names.iter().rev().find(|(known, _)| known == name);
                (0, known.map(|(_, extent)| extent.clone()).unwrap_or_default())
            }
            Node::Select { of, field, .. } | Node::Has { of, field } => {
                let (cost, of) = self.of(of);
                (cost, of.field(field))
            }
            Node::Index { of, key, .. } => {
                let (cost, of) = self.of(of);
                (cost.saturating_add(self.of(key).0), of.item())
            }
            Node::Call {
                name,
                target,
                arguments,
            } => self.call(name, target.as_deref(), arguments),
            Node::Unary { of, .. } => self.of(of),
            Node::Binary { operator, left, right } => self.binary(*operator, left, right),
            Node::If { when, yes, no } => {
                let (when, _) = self.of(when);
                let (yes, no) = (self.of(yes), self.of(no));
                (when.saturating_add(yes.0.max(no.0)), larger(yes.1, no.1))
            }
            Node::List(items) => {
                let (cost, extents) = self.sum(items.iter().map(|(item, _)| item));
                let inner = extents.into_iter().reduce(larger).unwrap_or_default();
                (cost, Extent::list(items.len() as u64, inner))
            }
            Node::Map(entries) => {
                let (keys, _) = self.sum(entries.iter().map(|(key, ..)| key));
                let (values, extents) = self.sum(entries.iter().map(|(_, value, _)| value));
                let inner = extents.into_iter().reduce(larger).unwrap_or_default();
                (keys.saturating_add(values), Extent::list(entries.len() as u64, inner))
            }
            Node::Message { fields, .. } => {
                let (cost, extents) = self.sum(fields.iter().map(|(_, value, _)| value));
                let names = fields.iter().map(|(name, ..)| name.clone());
                let fields = names.zip(extents).collect();
                let made = Extent {
                    fields,
                    ..Extent::default()
                };
                (cost, made)
            }
            Node::Each {
                each,
                of,
                first,
                second,
                filter,
                body,
            } => self.each(*each, of, (first, second.as_deref()), (filter.as_deref(), body)),
            Node::Bind { name, value, body, .. } => {
                let (cost, value) = self.of(value);
                let (more, made) = self.with([(name.as_str(), value)], body);
                (cost.saturating_add(more), made)
            }
        }
    }

    fn with<const N: usize>(&mut self, names: [(&str, Extent); N], body: &Expr) -> Found {
        let depth = self.names.len();
        self.names.extend(names.map(|(name, extent)| (name.to_owned(), extent)));
        let found = self.of(body);
        self.names.truncate(depth);
        found
    }

    fn each(
        &mut self,
        each: Each,
        of: &Expr,
        (first, second): (&str, Option<&str>),
        (filter, body): (Option<&Expr>, &Expr),
    ) -> Found {
        let (cost, of) = self.of(of);
        // Of two variables the first is an index or a key, of which only a key is a text.
        let names = match second {
            None => [(first, of.item()), ("", Extent::default())],
            Some(second) => [(first, Extent::of(of.most)), (second, of.item())],
        };
        let chosen = filter.map_or(0, |filter| self.with(names.clone(), filter).0);
        let (step, made) = self.with(names, body);
        let steps = of.most.saturating_mul(step.saturating_add(chosen).saturating_add(2));
        let extent = match each {
            Each::All | Each::Exists | Each::ExistsOne => Extent::default(),
            Each::Filter => of,
            Each::Map | Each::TransformList | Each::TransformMap => Extent::list(of.most, made),
            Each::TransformMapEntry => Extent::list(of.most.saturating_mul(made.most), made.item()),
        };
        (cost.saturating_add(steps), extent)
    }

    fn binary(&mut self, operator: Binary, left: &Expr, right: &Expr) -> Found {
        let (one, left) = self.of(left);
        let (other, right) = self.of(right);
        let cost = one.saturating_add(other);
        let (own, extent) = match operator {
            Binary::Equal | Binary::NotEqual => (left.whole().min(right.whole()), Extent::default()),
            Binary::Less | Binary::LessOrEqual | Binary::Greater | Binary::GreaterOrEqual => {
                (left.surface().min(right.surface()), Extent::default())
            }
            Binary::In if right.inner.is_some() => {
                let each = left.whole().min(right.item().whole()).saturating_add(1);
                (right.most.saturating_mul(each), Extent::default())
            }
            Binary::Add => {
                let most = left.most.saturating_add(right.most);
                let own = left.surface().saturating_add(right.surface());
                let inner = match (left.inner, right.inner) {
                    (Some(one), Some(other)) => Some(Arc::new(larger((*one).clone(), (*other).clone()))),
                    (one, other) => one.or(other),
                };
                let fields = BTreeMap::new();
                (own, Extent { most, inner, fields })
            }
            _ => (0, Extent::default()),
        };
        (cost.saturating_add(own), extent)
    }

    fn call(&mut self, name: &str, target: Option<&Expr>, arguments: &[Expr]) -> Found {
        let (cost, values) = self.sum(target.into_iter().chain(arguments));
        let nothing = Extent::default();
        let first = values.first().unwrap_or(&nothing);
        let second = values.get(1).unwrap_or(&nothing);
        let surface = || values.iter().map(Extent::surface).fold(0, u64::saturating_add);
        let own = match name {
            "size" | "type" | "dyn" | "int" | "uint" | "double" | "bool" | "string" | "timestamp" | "duration"
            | "hasValue" | "value" | "or" | "orValue" | "of" | "none" => 0,
            "startsWith" | "endsWith" => second.surface(),
            "matches" | "find" | "findAll" => {
                (tenth(first.most) + 1).saturating_mul(second.most.div_ceil(4).saturating_add(1))
            }
            "contains" if first.inner.is_none() => (tenth(first.most) + 1).saturating_mul(tenth(second.most) + 1),
            // Each item of one list is held against each of the other.
            "contains" | "intersects" | "equivalent" => {
                let (one, other) = (
                    values.iter().rev().nth(1).unwrap_or(&nothing),
                    values.last().unwrap_or(&nothing),
                );
                one.whole()
                    .saturating_mul(other.most.saturating_add(1))
                    .saturating_mul(2)
            }
            "distinct" | "indexOf" | "lastIndexOf" if first.inner.is_some() => first.whole().saturating_mul(first.most),
            "sort" => first.whole().saturating_mul(u64::from(64 - first.most.leading_zeros())),
            _ => surface(),
        };
        let extent = match name {
            "range" => Extent::list(counted(arguments), Extent::default()),
            "split" | "findAll" => Extent::list(first.most, Extent::of(first.most)),
            "replace" => Extent::of(
                first
                    .most
                    .saturating_mul(values.get(2).map_or(0, |to| to.most).saturating_add(1)),
            ),
            "join" => Extent::of(first.most.saturating_mul(first.item().most.saturating_add(second.most))),
            "format" => Extent::of(first.most.saturating_add(second.whole().saturating_mul(10))),
            // The space of a function with two names is no value.
            "of" | "ofNonZeroValue" => values.last().cloned().unwrap_or_default(),
            "or" | "orValue" => larger(first.clone(), second.clone()),
            _ => first.clone(),
        };
        (cost.saturating_add(own), extent)
    }
}

/// How many numbers `lists.range` gives: what is written there, or what a budget could pay for.
fn counted(arguments: &[Expr]) -> u64 {
    match arguments.first().map(|argument| &argument.node) {
        Some(Node::Literal(Val::Int(count))) => u64::try_from(*count).unwrap_or(0),
        _ => 1_000_000,
    }
}

fn larger(one: Extent, other: Extent) -> Extent {
    if one.whole() >= other.whole() { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Names};

    fn estimate(source: &str) -> u64 {
        let program = Program::compile(source, &Names::new([("self", Kind::Dyn)])).unwrap();
        let item = Extent {
            fields: BTreeMap::from([
                ("name".to_owned(), Extent::of(100)),
                ("long".to_owned(), Extent::of(3_000_000)),
            ]),
            ..Extent::default()
        };
        let own = Extent {
            fields: BTreeMap::from([
                ("name".to_owned(), Extent::of(100)),
                ("few".to_owned(), Extent::list(10, item.clone())),
                ("many".to_owned(), Extent::list(1_000_000, item)),
            ]),
            ..Extent::default()
        };
        program.estimate(&[("self", own)])
    }

    #[test]
    fn steps_and_items_are_counted() {
        assert_eq!(estimate("1 == 1"), 1);
        assert_eq!(estimate("self.name == 'a'"), 4);
        assert!(estimate("self.few.all(x, x.name.size() > 0)") < 100);
        assert!(estimate("self.few.all(x, self.few.exists(y, x.name == y.name))") < 4000);
        let linear = estimate("self.many.all(x, x.name.startsWith('a'))");
        assert!((1_000_000..10_000_000).contains(&linear), "{linear}");
        assert!(estimate("self.many.all(x, self.many.exists(y, x == y))") > 1_000_000_000_000);
        assert!(estimate("self.many.map(x, x.name).distinct().size() == 1") > 1_000_000_000_000);
        assert!(estimate("self.many.all(x, x.long.matches('a+'))") > 100_000_000_000);
    }

    #[test]
    fn no_estimate_overflows() {
        let mut source = "self.many".to_owned();
        for name in ["a", "b", "c", "d", "e", "f"] {
            source = format!("self.many.map({name}, {source})");
        }
        assert_eq!(estimate(&format!("{source} == {source}")), u64::MAX);
    }
}
