//! The check before the first evaluation: names, fields and functions exist, and operators get what they can take.
//!
//! It never refuses what might evaluate: where nothing is known of a value, everything is allowed.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use crate::ast::{Binary, Each, Expr, Fault, Node, Optional, Unary};
use crate::kind::{DYN, Kind, Object, escape};
use crate::library::{self, Library};
use crate::parse::dotted;
use crate::value::Val;
use crate::{functions, texts};

/// The root of the types of which expressions make objects, and the type of their patches.
const OBJECT: &str = "Object";
const PATCH: &str = "JSONPatch";

/// The variables and functions that an expression may use.
#[derive(Debug, Clone, Default)]
pub struct Names {
    kinds: BTreeMap<String, Kind>,
    libraries: &'static [&'static Library],
    makes: bool,
}

impl Names {
    /// These variables and no others.
    pub fn new(names: impl IntoIterator<Item = (&'static str, Kind)>) -> Self {
        Self {
            kinds: names.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect(),
            ..Self::default()
        }
    }

    /// And this one.
    #[must_use]
    pub fn with(mut self, name: &str, kind: Kind) -> Self {
        self.kinds.insert(name.to_owned(), kind);
        self
    }

    /// With the functions of libraries.
    #[must_use]
    pub fn using(mut self, libraries: &'static [&'static Library]) -> Self {
        self.libraries = libraries;
        self
    }

    /// Expressions may make objects, `Object{...}`, and operations of patches, `JSONPatch{...}`.
    #[must_use]
    pub fn making(mut self) -> Self {
        self.makes = true;
        self
    }

    pub(crate) fn libraries(&self) -> &'static [&'static Library] {
        self.libraries
    }
}

/// The patterns that an expression has as literals, compiled.
pub(crate) type Patterns = BTreeMap<String, Regex>;

pub(crate) struct Checker<'n> {
    names: &'n Names,
    bound: Vec<(String, Kind)>,
    used: Vec<String>,
    patterns: Patterns,
}

type Result<T> = std::result::Result<T, Fault>;

impl<'n> Checker<'n> {
    pub(crate) fn new(names: &'n Names) -> Self {
        Self {
            names,
            bound: Vec::new(),
            used: Vec::new(),
            patterns: Patterns::new(),
        }
    }

    /// The variables and the patterns that were found.
    pub(crate) fn into_found(self) -> (Vec<String>, Patterns) {
        (self.used, self.patterns)
    }

    pub(crate) fn check(&mut self, expr: &Expr) -> Result<Kind> {
        match &expr.node {
            Node::Literal(value) => Ok(of_literal(value)),
            Node::Name(name) => self.name(expr.at, name),
            Node::Select { of, field, optional } => {
                if dotted(expr).is_some_and(|name| functions::type_value(&name).is_some()) {
                    return Ok(Kind::Type);
                }
                let of = self.check(of)?;
                let found = self.field_of(&of, field, expr.at)?;
                Ok(if *optional && !matches!(of, Kind::Optional(_)) {
                    Kind::Optional(Arc::new(found))
                } else {
                    found
                })
            }
            Node::Has { of, field } => {
                let of = self.check(of)?;
                self.field_of(&of, field, expr.at)?;
                Ok(Kind::Bool)
            }
            Node::Index { of, key, optional } => self.index(expr.at, of, key, *optional),
            Node::Call {
                name,
                target,
                arguments,
            } => self.call(expr.at, name, target.as_deref(), arguments),
            Node::Unary { operator, of } => {
                let of = self.check(of)?;
                match (operator, &of) {
                    (Unary::Not, Kind::Bool | Kind::Dyn) => Ok(Kind::Bool),
                    (Unary::Negate, Kind::Int | Kind::Double | Kind::Duration | Kind::Dyn) => Ok(of),
                    (operator, _) => Err(overload(
                        expr.at,
                        if *operator == Unary::Not { "!_" } else { "-_" },
                        &[&of],
                    )),
                }
            }
            Node::Binary { operator, left, right } => {
                let (left, right) = (self.check(left)?, self.check(right)?);
                binary(expr.at, *operator, &left, &right)
            }
            Node::If { when, yes, no } => {
                let (when, yes, no) = (self.check(when)?, self.check(yes)?, self.check(no)?);
                if !matches!(when, Kind::Bool | Kind::Dyn) || !yes.fits(&no) {
                    return Err(overload(expr.at, "_?_:_", &[&when, &yes, &no]));
                }
                Ok(if yes == no { yes } else { Kind::Dyn })
            }
            Node::List(items) => {
                let (mut kind, mut mixed) = (None, false);
                for (item, optional) in items {
                    let found = self.check(item)?;
                    mixed |= *optional || kind.as_ref().is_some_and(|known| *known != found);
                    kind = Some(found);
                }
                Ok(Kind::list(kind.filter(|_| !mixed).unwrap_or_default()))
            }
            Node::Map(entries) => {
                for (key, value, _) in entries {
                    self.check(key)?;
                    self.check(value)?;
                }
                Ok(Kind::Map(Arc::new(Kind::Dyn)))
            }
            Node::Message { name, fields } => self.message(expr.at, name, fields),
            Node::Each {
                each,
                of,
                first,
                second,
                filter,
                body,
            } => {
                let of = self.check(of)?;
                self.each(
                    expr.at,
                    *each,
                    &of,
                    (first, second.as_deref()),
                    (filter.as_deref(), body),
                )
            }
            Node::Bind {
                name,
                value,
                body,
                optional,
            } => self.bind(expr.at, name, value, body, *optional),
        }
    }

    fn name(&mut self, at: usize, name: &str) -> Result<Kind> {
        if let Some((_, kind)) = self.bound.iter().rev().find(|(known, _)| known == name) {
            return Ok(kind.clone());
        }
        if let Some(kind) = self.names.kinds.get(name) {
            if !self.used.iter().any(|used| used == name) {
                self.used.push(name.to_owned());
            }
            return Ok(kind.clone());
        }
        match functions::type_value(name) {
            Some(_) => Ok(Kind::Type),
            None => Err(undeclared(at, name)),
        }
    }

    /// An object or an operation of a patch. The types of objects are named by where their values stand: what is at
    /// `spec.template` is an `Object.spec.template`.
    fn message(&mut self, at: usize, name: &str, fields: &[(String, Expr, bool)]) -> Result<Kind> {
        let object = name == OBJECT || name.strip_prefix(OBJECT).is_some_and(|rest| rest.starts_with('.'));
        if !self.names.makes || !(object || name == PATCH) {
            return Err(undeclared(at, name));
        }
        for (field, value, optional) in fields {
            let kind = match (self.check(value)?, optional) {
                (Kind::Optional(inner), true) => (*inner).clone(),
                (kind, _) => kind,
            };
            let fits = match field.as_str() {
                _ if object => misplaced(&kind, &format!("{name}.{field}")).map_or(Ok(()), Err),
                "op" | "path" | "from" if kind.fits(&Kind::Text) => Ok(()),
                "op" | "path" | "from" => Err(format!(
                    "expected type of field '{field}' is 'string' but provided type is '{kind}'"
                )),
                "value" => Ok(()),
                _ => Err(format!("undefined field '{field}'")),
            };
            fits.map_err(|message| Fault { at: value.at, message })?;
        }
        Ok(Kind::Object(Arc::new(Object {
            name: name.to_owned(),
            fields: BTreeMap::new(),
            open: true,
        })))
    }

    fn field_of(&self, of: &Kind, field: &str, at: usize) -> Result<Kind> {
        if let Kind::Foreign(owner) = of
            && let Some(kind) = library::field(self.names.libraries, owner, field)
        {
            return Ok(Kind::Foreign(kind));
        }
        field_of(of, field, at)
    }

    fn index(&mut self, at: usize, of: &Expr, key: &Expr, optional: bool) -> Result<Kind> {
        let (of, key) = (self.check(of)?, self.check(key)?);
        let (inner, wrapped) = match &of {
            Kind::Optional(inner) => (&**inner, true),
            other => (other, optional),
        };
        let found = match (inner, &key) {
            (Kind::List(item, _), Kind::Int | Kind::Uint | Kind::Double | Kind::Dyn) => (**item).clone(),
            (Kind::Map(value), Kind::Text | Kind::Dyn) => (**value).clone(),
            (Kind::Map(value), _) if **value == Kind::Dyn => Kind::Dyn,
            (Kind::Dyn, _) => Kind::Dyn,
            _ => return Err(overload(at, "_[_]", &[&of, &key])),
        };
        Ok(if wrapped {
            Kind::Optional(Arc::new(found))
        } else {
            found
        })
    }

    fn call(&mut self, at: usize, name: &str, target: Option<&Expr>, arguments: &[Expr]) -> Result<Kind> {
        let space = target
            .and_then(functions::space_of)
            .filter(|space| !self.is_variable(space));
        let full = match &space {
            Some(space) => format!("{space}.{name}"),
            None => name.to_owned(),
        };
        let mut kinds = Vec::new();
        if let Some(target) = target.filter(|_| space.is_none()) {
            kinds.push(self.check(target)?);
        }
        for argument in arguments {
            kinds.push(self.check(argument)?);
        }
        self.literal_pattern(name, target, arguments)?;
        let known = functions::KNOWN.iter().find(|(known, ..)| *known == full);
        let brought = || library::functions(self.names.libraries);
        if known.is_none() && !brought().any(|function| function.name == full) {
            return Err(undeclared(at, &full));
        }
        let own = known
            .filter(|(_, least, most)| (*least..=*most).contains(&kinds.len()) && !refuses(&full, &kinds))
            .map(|_| result(&full, &kinds));
        let theirs = brought().filter(|function| function.may_take(&full, &kinds));
        let mut found = own.into_iter().chain(theirs.map(|function| (function.gives)()));
        match found.next() {
            None => Err(overload(at, &full, &kinds.iter().collect::<Vec<_>>())),
            Some(kind) if found.all(|other| other == kind) => Ok(kind),
            Some(_) => Ok(Kind::Dyn),
        }
    }

    fn is_variable(&self, name: &str) -> bool {
        self.bound.iter().any(|(known, _)| known == name) || self.names.kinds.contains_key(name)
    }

    /// Compiles a pattern that is a literal, so that it is done once and a wrong one is told.
    fn literal_pattern(&mut self, name: &str, target: Option<&Expr>, arguments: &[Expr]) -> Result<()> {
        if !matches!(name, "matches" | "find" | "findAll") {
            return Ok(());
        }
        let pattern = arguments.get(usize::from(target.is_none()));
        let Some((at, Node::Literal(value))) = pattern.map(|pattern| (pattern.at, &pattern.node)) else {
            return Ok(());
        };
        let Some(text) = value.as_text() else { return Ok(()) };
        let regex = texts::compile(text).map_err(|message| Fault { at, message })?;
        self.patterns.insert(text.to_owned(), regex);
        Ok(())
    }

    fn each(
        &mut self,
        at: usize,
        each: Each,
        of: &Kind,
        (first, second): (&str, Option<&str>),
        (filter, body): (Option<&Expr>, &Expr),
    ) -> Result<Kind> {
        let (one, other) = match (of, second) {
            (Kind::List(item, _), None) => ((**item).clone(), Kind::Dyn),
            (Kind::List(item, _), Some(_)) => (Kind::Int, (**item).clone()),
            (Kind::Map(value), _) => (Kind::Dyn, (**value).clone()),
            (Kind::Dyn | Kind::Object(_), _) => (Kind::Dyn, Kind::Dyn),
            _ => {
                return Err(Fault {
                    at,
                    message: format!(
                        "expression of type '{of}' cannot be range of a comprehension (must be list, map, or dynamic)"
                    ),
                });
            }
        };
        let depth = self.bound.len();
        self.bound.push((first.to_owned(), one.clone()));
        self.bound.extend(second.map(|second| (second.to_owned(), other)));
        let filter = filter.map(|filter| self.check(filter)).transpose()?;
        let body = self.check(body)?;
        self.bound.truncate(depth);
        let truth = |kind: &Kind| matches!(kind, Kind::Bool | Kind::Dyn);
        let tests = matches!(each, Each::All | Each::Exists | Each::ExistsOne | Each::Filter);
        if (tests && !truth(&body)) || filter.is_some_and(|filter| !truth(&filter)) {
            return Err(Fault {
                at,
                message: format!("expected type 'bool' but found '{body}'"),
            });
        }
        Ok(match each {
            Each::All | Each::Exists | Each::ExistsOne => Kind::Bool,
            Each::Filter => Kind::list(one),
            Each::Map | Each::TransformList => Kind::list(body),
            Each::TransformMap => Kind::Map(Arc::new(body)),
            Each::TransformMapEntry => body,
        })
    }

    fn bind(&mut self, at: usize, name: &str, value: &Expr, body: &Expr, optional: Option<Optional>) -> Result<Kind> {
        let value = self.check(value)?;
        let inner = match (&value, optional) {
            (value, None) => value.clone(),
            (Kind::Optional(inner), _) => (**inner).clone(),
            (Kind::Dyn, _) => Kind::Dyn,
            (other, _) => return Err(overload(at, "optMap", &[other])),
        };
        self.bound.push((name.to_owned(), inner));
        let body = self.check(body)?;
        self.bound.pop();
        Ok(if optional == Some(Optional::Value) {
            Kind::Optional(Arc::new(body))
        } else {
            body
        })
    }
}

fn undeclared(at: usize, name: &str) -> Fault {
    Fault {
        at,
        message: format!("undeclared reference to '{name}' (in container '')"),
    }
}

/// What is wrong with a made object that stands where its type's name does not say.
fn misplaced(kind: &Kind, expected: &str) -> Option<String> {
    match kind {
        Kind::List(item, _) => misplaced(item, expected),
        Kind::Object(object) if object.name.starts_with(OBJECT) && object.name != expected => Some(format!(
            "unexpected type name \"{}\", expected \"{expected}\", which matches field name path from root Object type",
            object.name
        )),
        _ => None,
    }
}

fn of_literal(value: &Val<'_>) -> Kind {
    match value {
        Val::Null => Kind::Null,
        Val::Bool(_) => Kind::Bool,
        Val::Int(_) => Kind::Int,
        Val::Uint(_) => Kind::Uint,
        Val::Double(_) => Kind::Double,
        Val::Bytes(_) => Kind::Bytes,
        _ => Kind::Text,
    }
}

fn field_of(of: &Kind, field: &str, at: usize) -> Result<Kind> {
    match of {
        Kind::Object(object) => {
            let known = object
                .fields
                .iter()
                .find(|(name, _)| escape(name).as_deref() == Some(field));
            match known {
                Some((_, kind)) => Ok(kind.clone()),
                None if object.open => Ok(Kind::Dyn),
                None => Err(Fault {
                    at,
                    message: format!("undefined field '{field}'"),
                }),
            }
        }
        Kind::Map(value) => Ok((**value).clone()),
        Kind::Optional(inner) => Ok(Kind::Optional(Arc::new(field_of(inner, field, at)?))),
        Kind::Dyn => Ok(DYN.clone()),
        other => Err(Fault {
            at,
            message: format!("type '{other}' does not support field selection"),
        }),
    }
}

fn overload(at: usize, name: &str, kinds: &[&Kind]) -> Fault {
    let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    Fault {
        at,
        message: format!(
            "found no matching overload for '{name}' applied to '({})'",
            kinds.join(", ")
        ),
    }
}

fn binary(at: usize, operator: Binary, left: &Kind, right: &Kind) -> Result<Kind> {
    let fail = || overload(at, operator.name(), &[left, right]);
    let open = *left == Kind::Dyn || *right == Kind::Dyn;
    match operator {
        Binary::And | Binary::Or => {
            let truth = |kind: &Kind| matches!(kind, Kind::Bool | Kind::Dyn);
            if truth(left) && truth(right) {
                Ok(Kind::Bool)
            } else {
                Err(fail())
            }
        }
        Binary::Equal | Binary::NotEqual => {
            if left.fits(right) {
                Ok(Kind::Bool)
            } else {
                Err(fail())
            }
        }
        Binary::Less | Binary::LessOrEqual | Binary::Greater | Binary::GreaterOrEqual => {
            let ordered = |kind: &Kind| {
                kind.is_number()
                    || matches!(
                        kind,
                        Kind::Bool | Kind::Text | Kind::Bytes | Kind::Duration | Kind::Time | Kind::Dyn
                    )
            };
            if left.fits(right) && ordered(left) && ordered(right) {
                Ok(Kind::Bool)
            } else {
                Err(fail())
            }
        }
        Binary::In => match right {
            Kind::List(item, _) if item.fits(left) => Ok(Kind::Bool),
            Kind::Map(_) | Kind::Dyn | Kind::Object(_) => Ok(Kind::Bool),
            _ => Err(fail()),
        },
        _ if open => Ok(Kind::Dyn),
        Binary::Add => match (left, right) {
            (Kind::Text, Kind::Text) | (Kind::Bytes, Kind::Bytes) => Ok(left.clone()),
            (Kind::List(one, _), Kind::List(other, _)) if one.fits(other) => Ok(left.clone()),
            (Kind::Time, Kind::Duration) | (Kind::Duration, Kind::Time) => Ok(Kind::Time),
            (one, other) if one == other && (one.is_number() || *one == Kind::Duration) => Ok(left.clone()),
            _ => Err(fail()),
        },
        Binary::Subtract => match (left, right) {
            (Kind::Time, Kind::Time) => Ok(Kind::Duration),
            (Kind::Time, Kind::Duration) => Ok(Kind::Time),
            (one, other) if one == other && (one.is_number() || *one == Kind::Duration) => Ok(left.clone()),
            _ => Err(fail()),
        },
        Binary::Modulo if *left == Kind::Double => Err(fail()),
        _ if left == right && left.is_number() => Ok(left.clone()),
        _ => Err(fail()),
    }
}

/// Whether a function surely does not take values of these kinds.
fn refuses(name: &str, kinds: &[Kind]) -> bool {
    const TEXTS: [&str; 16] = [
        "startsWith",
        "endsWith",
        "matches",
        "find",
        "findAll",
        "charAt",
        "lowerAscii",
        "upperAscii",
        "replace",
        "split",
        "substring",
        "trim",
        "format",
        "isIP",
        "isURL",
        "isCIDR",
    ];
    let first = kinds.first().unwrap_or(&DYN);
    match name {
        "size" => !matches!(
            first,
            Kind::Dyn | Kind::Text | Kind::Bytes | Kind::List(..) | Kind::Map(_)
        ),
        "startsWith" | "endsWith" | "matches" | "contains" => {
            kinds.iter().any(|kind| !matches!(kind, Kind::Dyn | Kind::Text))
        }
        name if TEXTS.contains(&name) => !matches!(first, Kind::Dyn | Kind::Text),
        "isSorted" | "sum" | "min" | "max" | "distinct" | "sort" | "flatten" | "first" | "last" | "join" => {
            !matches!(first, Kind::Dyn | Kind::List(..))
        }
        "hasValue" | "value" | "or" | "orValue" => !matches!(first, Kind::Dyn | Kind::Optional(_)),
        _ => false,
    }
}

/// The kind of a function's value, where it is sure.
fn result(name: &str, kinds: &[Kind]) -> Kind {
    let first = kinds.first().unwrap_or(&DYN);
    match name {
        "size" | "int" | "getFullYear" | "getMonth" | "getDate" | "getHours" | "getMinutes" | "getSeconds"
        | "getMilliseconds" | "family" | "prefixLength" | "major" | "minor" | "patch" | "compareTo" | "indexOf"
        | "lastIndexOf" => Kind::Int,
        "uint" => Kind::Uint,
        "double" => Kind::Double,
        "bool"
        | "contains"
        | "startsWith"
        | "endsWith"
        | "matches"
        | "hasValue"
        | "isSorted"
        | "isIP"
        | "isCIDR"
        | "isURL"
        | "isSemver"
        | "containsIP"
        | "containsCIDR"
        | "isGreaterThan"
        | "isLessThan"
        | "isLoopback"
        | "isUnspecified"
        | "isGlobalUnicast"
        | "isLinkLocalUnicast"
        | "isLinkLocalMulticast"
        | "ip.isCanonical"
        | "sets.contains"
        | "sets.equivalent"
        | "sets.intersects" => Kind::Bool,
        "string" | "charAt" | "join" | "lowerAscii" | "upperAscii" | "replace" | "substring" | "trim" | "find"
        | "format" | "strings.quote" | "getScheme" | "getHost" | "getHostname" | "getPort" | "getEscapedPath"
        | "base64.encode" => Kind::Text,
        "bytes" | "base64.decode" => Kind::Bytes,
        "duration" => Kind::Duration,
        "timestamp" => Kind::Time,
        "type" => Kind::Type,
        "split" | "findAll" => Kind::list(Kind::Text),
        "distinct" | "sort" => first.clone(),
        "optional.of" => Kind::Optional(Arc::new(first.clone())),
        "orValue" | "value" => match first {
            Kind::Optional(inner) => (**inner).clone(),
            _ => Kind::Dyn,
        },
        _ => Kind::Dyn,
    }
}
