//! The rules of a schema that are written in CEL (`x-kubernetes-validations`).
//!
//! They are compiled with the schema and evaluated after everything else holds. A rule that speaks of `oldSelf` concerns
//! changes: it is asked only where there is a value before and after. Each evaluation and all of one object together have
//! a limit, those of Kubernetes.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_cel::{Budget, EvalError, Kind, Names, Object, Program, Val};
use serde_json::Value;

use super::check::{below, counterpart, shown};
use super::extent;
use super::schema::{Additional, JsonType, ListType, Schema};
use crate::field_error::{FieldError, FieldErrorKind};
use crate::object;
use crate::policy::library::LIBRARIES;

/// What one evaluation may cost, as in Kubernetes: about a tenth of a second there, less here.
const CALL_LIMIT: u64 = 1_000_000;
/// What all evaluations for one object may cost together, as in Kubernetes.
const OBJECT_LIMIT: u64 = 10_000_000;
/// What a rule may cost by the estimate that is made of it when its definition is written, as in Kubernetes.
const ESTIMATE_LIMIT: u64 = 10_000_000;
/// What all rules of a definition may cost together by that estimate, as in Kubernetes.
const TOTAL_ESTIMATE_LIMIT: u64 = 100_000_000;
/// The longest message that a rule may make, in bytes, as in Kubernetes.
const MESSAGE_LIMIT_BYTES: usize = 5 * 1024;

/// The compiled rules of one schema node.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// What is known of the node's values.
    kind: Kind,
}

#[derive(Debug, Clone)]
struct Rule {
    program: Program,
    source: String,
    message: String,
    message_program: Option<Program>,
    /// Below which field a failure is told.
    field: String,
    reason: String,
    /// `oldSelf` is an optional, and the rule is asked for new values too.
    optional_old: bool,
}

impl Rules {
    /// Compiles the rules of a node. Those that do not compile were refused when the definition was written.
    pub fn compile(json: &Value, schema: &Schema) -> Self {
        let given = object::list(json, "x-kubernetes-validations");
        if given.is_empty() {
            return Self::default();
        }
        let kind = kind_of(schema);
        let rules = given
            .iter()
            .filter_map(|rule| Rule::compile(rule, &kind).ok())
            .collect();
        Self { rules, kind }
    }

    fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Rule {
    /// Compiles a rule; an error names the field that is wrong.
    fn compile(json: &Value, kind: &Kind) -> Result<Self, (&'static str, String)> {
        let text = |field: &str| object::text(json, field).trim().to_owned();
        let optional_old = object::truth(json, "optionalOldSelf");
        let old = if optional_old {
            Kind::Optional(Arc::new(kind.clone()))
        } else {
            kind.clone()
        };
        let names = Names::new([("self", kind.clone()), ("oldSelf", old)]).using(LIBRARIES);
        let compiled = |field: &'static str, wanted: Kind, words: &str| -> Result<Program, (&'static str, String)> {
            let program = Program::compile(&text(field), &names)
                .map_err(|error| (field, format!("compilation failed: {error}")))?;
            let found = program.kind();
            if *found != wanted && *found != Kind::Dyn {
                return Err((field, format!("compilation failed: {words}")));
            }
            Ok(program)
        };
        let program = compiled("rule", Kind::Bool, "cel expression must evaluate to a bool")?;
        if optional_old && !program.uses("oldSelf") {
            return Err((
                "optionalOldSelf",
                "may not be set if oldSelf is not used in rule".to_owned(),
            ));
        }
        let message_program = match text("messageExpression").is_empty() {
            true => None,
            false => Some(compiled(
                "messageExpression",
                Kind::Text,
                "messageExpression must evaluate to a string",
            )?),
        };
        Ok(Self {
            program,
            source: text("rule"),
            message: text("message"),
            message_program,
            field: text("fieldPath").trim_start_matches('.').to_owned(),
            reason: text("reason"),
            optional_old,
        })
    }

    /// How messages name the rule.
    fn shown(&self) -> &str {
        if self.message.is_empty() {
            &self.source
        } else {
            &self.message
        }
    }
}

/// What expressions may know of values of a schema.
pub(crate) fn kind_of(schema: &Schema) -> Kind {
    if schema.int_or_string {
        return Kind::Dyn;
    }
    match (schema.kind, schema.format.as_str()) {
        (Some(JsonType::Boolean), _) => Kind::Bool,
        (Some(JsonType::Integer), _) => Kind::Int,
        (Some(JsonType::Number), _) => Kind::Double,
        (Some(JsonType::String), "date" | "date-time") => Kind::Time,
        (Some(JsonType::String), "duration") => Kind::Duration,
        (Some(JsonType::String), "byte") => Kind::Bytes,
        (Some(JsonType::String), _) => Kind::Text,
        (Some(JsonType::Array), _) => {
            let item = schema.items.as_deref().map(kind_of).unwrap_or_default();
            Kind::List(Arc::new(item), schema.list != ListType::Atomic)
        }
        (Some(JsonType::Object), _) => match &schema.additional {
            Additional::Schema(value) => Kind::Map(Arc::new(kind_of(value))),
            Additional::Any => Kind::Map(Arc::new(Kind::Dyn)),
            Additional::Unsaid => object_kind(schema),
        },
        (None, _) => Kind::Dyn,
    }
}

fn object_kind(schema: &Schema) -> Kind {
    let mut fields: BTreeMap<String, Kind> = schema
        .properties
        .iter()
        .map(|(name, inner)| (name.clone(), kind_of(inner)))
        .collect();
    if schema.embedded {
        let metadata = ["name", "generateName"].map(|name| (name.to_owned(), Kind::Text));
        let metadata = Object {
            name: "object.metadata".to_owned(),
            fields: metadata.into_iter().collect(),
            open: false,
        };
        fields.insert("apiVersion".to_owned(), Kind::Text);
        fields.insert("kind".to_owned(), Kind::Text);
        fields.insert("metadata".to_owned(), Kind::Object(Arc::new(metadata)));
    }
    Kind::Object(Arc::new(Object {
        name: "object".to_owned(),
        fields,
        open: false,
    }))
}

/// Checks the rules of a schema as its author wrote them.
pub fn validate(json: &Value, path: &str, faults: &mut Vec<FieldError>) {
    let mut estimates = Estimates { occurs: 1, total: 0 };
    validate_node(json, true, path, &mut estimates, faults);
    if estimates.total > TOTAL_ESTIMATE_LIMIT {
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let words = extent::excess(what, estimates.total, TOTAL_ESTIMATE_LIMIT);
        faults.push(FieldError::forbidden(path, words));
    }
}

/// What the rules of a schema may cost.
struct Estimates {
    /// How many values of the node at hand an object may have.
    occurs: u64,
    /// What all rules of one object may cost together.
    total: u64,
}

fn validate_node(json: &Value, root: bool, path: &str, estimates: &mut Estimates, faults: &mut Vec<FieldError>) {
    let rules = object::list(json, "x-kubernetes-validations");
    if !rules.is_empty() {
        let schema = if root {
            Schema::root(json)
        } else {
            Schema::compile(json)
        };
        let kind = kind_of(&schema);
        for (index, rule) in rules.iter().enumerate() {
            let here = format!("{path}.x-kubernetes-validations[{index}]");
            validate_rule(rule, &kind, &here, faults);
            validate_cost(rule, &kind, &schema, &here, estimates, faults);
        }
    }
    for (name, inner) in json.get("properties").and_then(Value::as_object).into_iter().flatten() {
        validate_node(inner, false, &format!("{path}.properties[{name}]"), estimates, faults);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = json.get(name).filter(|inner| inner.is_object()) {
            let before = estimates.occurs;
            estimates.occurs = before.saturating_mul(extent::of(&Schema::compile(json)).most);
            validate_node(inner, false, &format!("{path}.{name}"), estimates, faults);
            estimates.occurs = before;
        }
    }
}

/// A rule may not cost more than Kubernetes allows, on the largest objects that the schema lets through.
fn validate_cost(
    rule: &Value,
    kind: &Kind,
    schema: &Schema,
    path: &str,
    estimates: &mut Estimates,
    faults: &mut Vec<FieldError>,
) {
    let Ok(rule) = Rule::compile(rule, kind) else { return };
    let own = extent::of(schema);
    let variables = [("self", own.clone()), ("oldSelf", own)];
    let programs = [
        ("rule", "estimated rule cost", Some(&rule.program)),
        (
            "messageExpression",
            "estimated messageExpression cost",
            rule.message_program.as_ref(),
        ),
    ];
    for (field, what, program) in programs {
        let cost = program.map_or(0, |program| program.estimate(&variables));
        let cost = cost.saturating_mul(estimates.occurs);
        estimates.total = estimates.total.saturating_add(cost);
        if cost > ESTIMATE_LIMIT {
            let words = extent::excess(what, cost, ESTIMATE_LIMIT);
            faults.push(FieldError::forbidden(format!("{path}.{field}"), words));
        }
    }
}

fn validate_rule(rule: &Value, kind: &Kind, path: &str, faults: &mut Vec<FieldError>) {
    let text = |field: &str| object::text(rule, field);
    if text("rule").trim().is_empty() {
        return faults.push(FieldError::required(format!("{path}.rule"), "rule is not specified"));
    }
    let message = text("message");
    if message.contains('\n') {
        faults.push(FieldError::invalid(
            format!("{path}.message"),
            message,
            "message must not contain line breaks",
        ));
    }
    if text("rule").trim().contains('\n') && message.is_empty() {
        faults.push(FieldError::required(
            format!("{path}.message"),
            "message must be specified if rule contains line breaks",
        ));
    }
    if !matches!(
        text("reason"),
        "" | "FieldValueRequired" | "FieldValueForbidden" | "FieldValueInvalid" | "FieldValueDuplicate"
    ) {
        let allowed = [
            "FieldValueRequired",
            "FieldValueForbidden",
            "FieldValueInvalid",
            "FieldValueDuplicate",
        ];
        faults.push(FieldError::not_supported(
            format!("{path}.reason"),
            text("reason"),
            &allowed,
        ));
    }
    match Rule::compile(rule, kind) {
        Err((field, words)) => {
            let given = rule.get(field).cloned().unwrap_or_default();
            faults.push(FieldError::invalid(format!("{path}.{field}"), given, words));
        }
        Ok(rule) if !rule.field.is_empty() => {
            let known = rule.field.split('.').try_fold(kind, |at, step| match at {
                Kind::Object(object) => object.fields.get(step),
                Kind::Map(value) => Some(&**value),
                _ => None,
            });
            if known.is_none() {
                let given = text("fieldPath");
                faults.push(FieldError::invalid(
                    format!("{path}.fieldPath"),
                    given,
                    format!("fieldPath must be a valid path: {given} does not refer to a valid field"),
                ));
            }
        }
        Ok(_) => {}
    }
}

/// Whether a schema has rules anywhere.
pub fn any(schema: &Schema) -> bool {
    let inner = |schema: &Schema| any(schema);
    let additional = matches!(&schema.additional, Additional::Schema(schema) if inner(schema));
    !schema.rules.is_empty()
        || additional
        || schema.items.as_deref().is_some_and(inner)
        || schema.properties.values().any(inner)
}

/// Evaluates all rules of an object.
pub fn check(schema: &Schema, new: &Value, old: Option<&Value>, faults: &mut Vec<FieldError>) {
    let mut budget = OBJECT_LIMIT;
    // The answer only tells that the walk was cut short, which is told in the faults.
    let _ = node(schema, new, old, "", &mut budget, faults);
}

/// Says that rules were not asked because the object is wrong in other ways.
pub fn skipped() -> FieldError {
    FieldError::invalid(
        "<nil>",
        Value::Null,
        "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
    )
}

/// Whether a fault makes rules meaningless: they could not rely on the types that they were checked against.
pub fn is_blocking(fault: &FieldError) -> bool {
    use FieldErrorKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
    matches!(fault.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
}

/// The budget for all is used up.
struct Exhausted;

fn node(
    schema: &Schema,
    new: &Value,
    old: Option<&Value>,
    path: &str,
    budget: &mut u64,
    faults: &mut Vec<FieldError>,
) -> Result<(), Exhausted> {
    if new.is_null() {
        return Ok(());
    }
    let old = old.filter(|old| !old.is_null());
    for rule in &schema.rules.rules {
        ask(rule, schema, new, old, path, budget, faults)?;
    }
    match new {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(inner) = schema.field(name) {
                    let named = schema.properties.contains_key(name);
                    let at = if named {
                        below(path, name)
                    } else {
                        format!("{path}[{name}]")
                    };
                    node(inner, value, old.and_then(|old| old.get(name)), &at, budget, faults)?;
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = &schema.items else { return Ok(()) };
            let before = old
                .and_then(Value::as_array)
                .filter(|_| matches!(schema.list, ListType::Map(_)));
            for (index, item) in items.iter().enumerate() {
                let old = before.and_then(|before| counterpart(&schema.list, before, item));
                node(inner, item, old, &format!("{path}[{index}]"), budget, faults)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn ask(
    rule: &Rule,
    schema: &Schema,
    new: &Value,
    old: Option<&Value>,
    path: &str,
    budget: &mut u64,
    faults: &mut Vec<FieldError>,
) -> Result<(), Exhausted> {
    let transition = rule.program.uses("oldSelf");
    if transition && old.is_none() && !rule.optional_old {
        return Ok(());
    }
    let kind = &schema.rules.kind;
    let mut variables = vec![("self", Val::json(new, kind))];
    match (old, rule.optional_old) {
        (Some(old), false) => variables.push(("oldSelf", Val::json(old, kind))),
        (Some(old), true) => variables.push(("oldSelf", Val::some(Val::json(old, kind)))),
        (None, _) => variables.push(("oldSelf", Val::Optional(None))),
    }
    let type_name = schema.kind.map_or("", JsonType::name);
    let mut say = |words: String| faults.push(FieldError::invalid(shown(path), type_name, words));
    let result = spend(&rule.program, &variables, budget);
    let truth = match result {
        Err(None) => {
            say(
                "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned(),
            );
            return Err(Exhausted);
        }
        Err(Some(error @ EvalError::OutOfBudget)) => {
            say(format!(
                "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                rule.shown()
            ));
            return Err(Exhausted);
        }
        Err(Some(error @ EvalError::NoOverload(_))) => {
            say(format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {}",
                rule.shown()
            ));
            return Ok(());
        }
        Err(Some(error)) => {
            say(format!("{error} evaluating rule: {}", rule.shown()));
            return Ok(());
        }
        Ok(value) => matches!(value, Val::Bool(true)),
    };
    // A rule that does not speak of the old value cannot be broken by a part that did not change.
    if !truth && (transition || old != Some(new)) {
        let said = rule
            .message_program
            .as_ref()
            .and_then(|program| made_message(program, &variables, budget));
        let words = said.unwrap_or_else(|| match rule.message.is_empty() {
            true => format!("failed rule: {}", rule.source),
            false => rule.message.clone(),
        });
        faults.push(fault(rule, schema, new, path, words));
    }
    Ok(())
}

/// Evaluates within both limits; `None` for an error means that the object's is used up.
fn spend<'a>(program: &Program, variables: &[(&str, Val<'a>)], budget: &mut u64) -> Result<Val<'a>, Option<EvalError>> {
    let limit = CALL_LIMIT.min(*budget);
    let mut call = Budget::new(limit);
    let result = program.eval(variables, &mut call);
    *budget -= limit - call.left();
    match result {
        Err(EvalError::OutOfBudget) if limit < CALL_LIMIT => Err(None),
        result => result.map_err(Some),
    }
}

fn made_message(program: &Program, variables: &[(&str, Val<'_>)], budget: &mut u64) -> Option<String> {
    let value = spend(program, variables, budget).ok()?;
    let text = value.as_text()?.trim();
    let good = !text.is_empty() && text.len() <= MESSAGE_LIMIT_BYTES && !text.contains('\n');
    good.then(|| text.to_owned())
}

fn fault(rule: &Rule, schema: &Schema, new: &Value, path: &str, words: String) -> FieldError {
    let at = if rule.field.is_empty() {
        shown(path).to_owned()
    } else {
        below(path, &rule.field)
    };
    let whole = matches!(schema.kind, Some(JsonType::Object | JsonType::Array));
    match rule.reason.as_str() {
        "FieldValueForbidden" => FieldError::forbidden(at, words),
        "FieldValueRequired" => FieldError::required(at, words),
        "FieldValueDuplicate" => FieldError::duplicate(at, new.clone()),
        // Objects and lists would only drown the words.
        _ if whole => FieldError {
            path: at,
            kind: FieldErrorKind::Invalid,
            value: None,
            detail: words,
        },
        _ => FieldError::invalid(at, new.clone(), words),
    }
}
