//! Kubernetes' libraries of CEL that need what this crate knows: amounts, forms of names, pointers of JSON patches.

use std::any::Any;
use std::cmp::Ordering;
use std::sync::Arc;

use coracle_cel::{Budget, EvalError, Foreign, Function, Kind, Library, Takes, Val};

use super::authorizer;
use crate::custom::format::text_fits;
use crate::quantity::Quantity;
use crate::validate::names;

/// The libraries that every expression may use.
pub static LIBRARIES: &[&Library] = &[&AMOUNTS, &FORMS];
/// The same for expressions that may ask about rights and make patches.
pub static WITH_RIGHTS: &[&Library] = &[&AMOUNTS, &FORMS, &authorizer::LIBRARY];

pub(super) const QUANTITY: &str = "kubernetes.Quantity";
const FORM: &str = "kubernetes.NamedFormat";
/// What each character of a text costs that is held against a form: some of these are large patterns.
const FORM_COST_PER_BYTE: u64 = 4;

type Made = Result<Val<'static>, EvalError>;

#[derive(Debug)]
struct Amount(Quantity);

impl Foreign for Amount {
    fn kind(&self) -> &'static str {
        QUANTITY
    }

    fn same(&self, other: &dyn Foreign) -> bool {
        let other = other.any().downcast_ref::<Self>();
        other.is_some_and(|other| self.0 == other.0)
    }

    fn any(&self) -> &dyn Any {
        self
    }
}

/// An amount, as expressions see it.
pub(super) fn quantity(amount: Quantity) -> Val<'static> {
    Val::foreign(Amount(amount))
}

const AMOUNT: Takes = Takes::Foreign(QUANTITY);

static AMOUNTS: Library = Library {
    fields: &[],
    functions: &[
        Function::new(
            "isQuantity",
            &[Takes::Text],
            || Kind::Bool,
            |values, _| Ok(Val::Bool(Quantity::parse(text(values, 0)).is_ok())),
        ),
        Function::new(
            "quantity",
            &[Takes::Text],
            || Kind::Foreign(QUANTITY),
            |values, _| {
                let parsed = Quantity::parse(text(values, 0));
                parsed
                    .map(|amount| Val::foreign(Amount(amount)))
                    .map_err(|error| EvalError::Wrong(error.to_string()))
            },
        ),
        Function::new(
            "sign",
            &[AMOUNT],
            || Kind::Int,
            |values, _| Ok(Val::Int(amount(values, 0).nanos().signum() as i64)),
        ),
        Function::new(
            "isInteger",
            &[AMOUNT],
            || Kind::Bool,
            |values, _| {
                let amount = amount(values, 0);
                Ok(Val::Bool(amount.is_whole() && i64::try_from(amount.value()).is_ok()))
            },
        ),
        Function::new(
            "asInteger",
            &[AMOUNT],
            || Kind::Int,
            |values, _| {
                let amount = amount(values, 0);
                let whole = i64::try_from(amount.value()).ok().filter(|_| amount.is_whole());
                whole
                    .map(Val::Int)
                    .ok_or_else(|| EvalError::Wrong("cannot convert value to integer".to_owned()))
            },
        ),
        Function::new(
            "asApproximateFloat",
            &[AMOUNT],
            || Kind::Double,
            |values, _| Ok(Val::Double(amount(values, 0).nanos() as f64 / 1e9)),
        ),
        Function::new(
            "add",
            &[AMOUNT, AMOUNT],
            || Kind::Foreign(QUANTITY),
            |values, _| Ok(Val::foreign(Amount(amount(values, 0) + amount(values, 1)))),
        ),
        Function::new(
            "add",
            &[AMOUNT, Takes::Int],
            || Kind::Foreign(QUANTITY),
            |values, _| Ok(Val::foreign(Amount(amount(values, 0) + whole(values)))),
        ),
        Function::new(
            "sub",
            &[AMOUNT, AMOUNT],
            || Kind::Foreign(QUANTITY),
            |values, _| Ok(Val::foreign(Amount(amount(values, 0) - amount(values, 1)))),
        ),
        Function::new(
            "sub",
            &[AMOUNT, Takes::Int],
            || Kind::Foreign(QUANTITY),
            |values, _| Ok(Val::foreign(Amount(amount(values, 0) - whole(values)))),
        ),
        Function::new(
            "isGreaterThan",
            &[AMOUNT, AMOUNT],
            || Kind::Bool,
            |values, _| Ok(Val::Bool(order(values).is_gt())),
        ),
        Function::new(
            "isLessThan",
            &[AMOUNT, AMOUNT],
            || Kind::Bool,
            |values, _| Ok(Val::Bool(order(values).is_lt())),
        ),
        Function::new(
            "compareTo",
            &[AMOUNT, AMOUNT],
            || Kind::Int,
            |values, _| Ok(Val::Int(order(values) as i64)),
        ),
        Function::new(
            "jsonpatch.escapeKey",
            &[Takes::Text],
            || Kind::Text,
            |values, budget| {
                let key = text(values, 0);
                budget.pay(key.len() as u64 / 5)?;
                Ok(Val::text(key.replace('~', "~0").replace('/', "~1")))
            },
        ),
    ],
};

/// Says what is wrong with a text.
type Check = fn(&str) -> Vec<String>;

/// The forms that texts may have, by name.
static NAMED: &[(&str, Check)] = &[
    ("dns1123Label", names::dns_label),
    ("dns1123Subdomain", names::dns_subdomain),
    ("dns1035Label", names::service_name),
    ("qualifiedName", names::qualified_name),
    ("dns1123LabelPrefix", |text| names::dns_label(&without_dash(text))),
    ("dns1123SubdomainPrefix", |text| {
        names::dns_subdomain(&without_dash(text))
    }),
    ("dns1035LabelPrefix", |text| names::service_name(&without_dash(text))),
    ("labelValue", names::label_value),
    ("uri", |text| unless(text_fits("uri", text), "invalid URI for request")),
    ("uuid", |text| {
        unless(text_fits("uuid", text), "does not match the UUID format")
    }),
    ("byte", |text| unless(text_fits("byte", text), "invalid base64")),
    ("date", |text| unless(text_fits("date", text), "invalid date")),
    ("datetime", |text| {
        unless(text_fits("datetime", text), "invalid datetime")
    }),
];

#[derive(Debug)]
struct Form(usize);

impl Foreign for Form {
    fn kind(&self) -> &'static str {
        FORM
    }

    fn same(&self, other: &dyn Foreign) -> bool {
        other
            .any()
            .downcast_ref::<Self>()
            .is_some_and(|other| self.0 == other.0)
    }

    fn any(&self) -> &dyn Any {
        self
    }
}

/// The function `format.NAME()`: which form it gives is in the table above, in the same order.
macro_rules! forms {
    ($($index:literal $name:literal),*) => {
        &[
            $(Function::new(
                concat!("format.", $name),
                &[],
                || Kind::Foreign(FORM),
                |_, _| Ok(Val::foreign(Form($index))),
            ),)*
            Function::new(
                "format.named",
                &[Takes::Text],
                || Kind::Optional(Arc::new(Kind::Foreign(FORM))),
                named,
            ),
            Function::new(
                "validate",
                &[Takes::Foreign(FORM), Takes::Text],
                || Kind::Optional(Arc::new(Kind::list(Kind::Text))),
                validate,
            ),
        ]
    };
}

static FORMS: Library = Library {
    fields: &[],
    functions: forms!(
        0 "dns1123Label", 1 "dns1123Subdomain", 2 "dns1035Label", 3 "qualifiedName", 4 "dns1123LabelPrefix",
        5 "dns1123SubdomainPrefix", 6 "dns1035LabelPrefix", 7 "labelValue", 8 "uri", 9 "uuid", 10 "byte", 11 "date",
        12 "datetime"
    ),
};

fn named(values: &[Val<'_>], _: &mut Budget) -> Made {
    let wanted = text(values, 0);
    let found = NAMED.iter().position(|(name, _)| *name == wanted);
    Ok(Val::Optional(found.map(|index| Arc::new(Val::foreign(Form(index))))))
}

fn validate(values: &[Val<'_>], budget: &mut Budget) -> Made {
    let Some(Val::Foreign(form)) = values.first() else {
        return Ok(Val::Optional(None));
    };
    let words = text(values, 1);
    budget.pay((words.len() as u64).saturating_mul(FORM_COST_PER_BYTE))?;
    let index = form.any().downcast_ref::<Form>().map_or(usize::MAX, |form| form.0);
    let faults = NAMED.get(index).map(|(_, check)| check(words)).unwrap_or_default();
    if faults.is_empty() {
        return Ok(Val::Optional(None));
    }
    Ok(Val::some(Val::List(faults.into_iter().map(Val::text).collect())))
}

/// The beginning of a name may end with a dash, since more follows.
fn without_dash(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(before) if !before.is_empty() => format!("{before}a"),
        _ => text.to_owned(),
    }
}

fn unless(fits: bool, words: &str) -> Vec<String> {
    match fits {
        true => Vec::new(),
        false => vec![words.to_owned()],
    }
}

pub(super) fn text<'v>(values: &'v [Val<'_>], index: usize) -> &'v str {
    values.get(index).and_then(Val::as_text).unwrap_or_default()
}

fn amount(values: &[Val<'_>], index: usize) -> Quantity {
    let found = match values.get(index) {
        Some(Val::Foreign(value)) => value.any().downcast_ref::<Amount>(),
        _ => None,
    };
    found.map_or(Quantity::ZERO, |amount| amount.0)
}

fn whole(values: &[Val<'_>]) -> Quantity {
    match values.get(1) {
        Some(Val::Int(number)) => Quantity::from_value(*number),
        _ => Quantity::ZERO,
    }
}

fn order(values: &[Val<'_>]) -> Ordering {
    amount(values, 0).nanos().cmp(&amount(values, 1).nanos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_cel::{Names, Program};

    fn eval(source: &str) -> String {
        let names = Names::new([]).using(LIBRARIES);
        let program = Program::compile(source, &names).unwrap();
        match program.eval(&[], &mut Budget::new(100_000)) {
            Ok(value) => value.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn amounts_are_compared_and_added() {
        let cases = [
            ("quantity('1Gi').isGreaterThan(quantity('1000M'))", "true"),
            ("quantity('500m').add(quantity('1500m')).asInteger()", "2"),
            ("quantity('5').sub(7).sign()", "-1"),
            ("quantity('1.5').isInteger()", "false"),
            ("quantity('50k') == quantity('50000')", "true"),
            ("quantity('200M').compareTo(quantity('0.2G'))", "0"),
            ("isQuantity('1.3Gi') && !isQuantity('abc')", "true"),
            ("quantity('50.703k').asApproximateFloat()", "50703"),
            (
                "[quantity('1'), quantity('2')].all(q, q.isLessThan(quantity('3')))",
                "true",
            ),
        ];
        for (source, wanted) in cases {
            assert_eq!(eval(source), wanted, "{source}");
        }
    }

    #[test]
    fn texts_are_held_against_forms() {
        let cases = [
            ("format.dns1123Label().validate('my-label').hasValue()", "false"),
            ("format.dns1123Label().validate('My').value().size() > 0", "true"),
            ("format.dns1123LabelPrefix().validate('my-').hasValue()", "false"),
            (
                "format.named('uuid').value().validate('x').value()[0]",
                "does not match the UUID format",
            ),
            ("format.named('nobody').hasValue()", "false"),
            ("format.datetime().validate('2021-01-01T00:00:00Z').hasValue()", "false"),
            ("jsonpatch.escapeKey('example.com/a~b')", "example.com~1a~0b"),
        ];
        for (source, wanted) in cases {
            assert_eq!(eval(source), wanted, "{source}");
        }
        for (index, (name, _)) in NAMED.iter().enumerate() {
            let function = FORMS.functions.get(index).unwrap();
            assert_eq!(function.name, format!("format.{name}"));
        }
    }
}
