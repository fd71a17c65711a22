//! From a policy as its author wrote it to programs.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_cel::{Kind, Names, Object, Program};
use serde_json::Value;

use super::names::{plain, with_rights};
use crate::field_error::{FieldError, Path};
use crate::object;

/// A condition that must hold for a request to be looked at.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Its name.
    pub name: String,
    /// What must be true.
    pub program: Program,
}

/// Something that must be true.
#[derive(Debug, Clone)]
pub struct Validation {
    /// What must be true.
    pub program: Program,
    /// What is said when it is not; may be empty.
    pub message: String,
    /// What makes a better message.
    pub message_program: Option<Program>,
    /// The reason of the refusal; empty for the usual one.
    pub reason: String,
}

/// Something to be written down about a request.
#[derive(Debug, Clone)]
pub struct Annotation {
    /// Under which key.
    pub key: String,
    /// What makes the text, or null when there is nothing to say.
    pub program: Program,
}

/// A change.
#[derive(Debug, Clone)]
pub enum Mutation {
    /// Makes a configuration that is merged into the object.
    Apply(Program),
    /// Makes the operations of a JSON patch.
    Patch(Program),
}

/// A compiled policy. What did not compile is left out.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// What must hold for the policy to concern a request.
    pub conditions: Vec<Condition>,
    /// Values under names, made when they are asked for.
    pub variables: Vec<(String, Program)>,
    /// What must be true, in a validating policy.
    pub validations: Vec<Validation>,
    /// What is written down, in a validating policy.
    pub annotations: Vec<Annotation>,
    /// What is changed, in a mutating policy.
    pub mutations: Vec<Mutation>,
}

/// Compiles expressions and collects what is wrong with them.
struct Compiler<'f> {
    faults: &'f mut Vec<FieldError>,
}

impl Compiler<'_> {
    /// Compiles the text of a field; `fits` says whether values of a kind will do, which `wanted` names.
    fn compile(
        &mut self,
        owner: &Value,
        path: Path<'_>,
        field: &str,
        names: &Names,
        (wanted, fits): (&str, fn(&Kind) -> bool),
    ) -> Option<Program> {
        let source = object::text(owner, field);
        // A missing expression is told by the rules of the field.
        if source.trim().is_empty() {
            return None;
        }
        let words = match Program::compile(source, names) {
            Ok(program) if *program.kind() == Kind::Dyn || fits(program.kind()) => return Some(program),
            Ok(program) => format!("must evaluate to {wanted} but got {}", program.kind()),
            Err(error) => format!("compilation failed: {error}"),
        };
        self.faults.push(FieldError::invalid(path.child(field), source, words));
        None
    }

    fn conditions(&mut self, list: &[Value], path: Path<'_>, names: &Names) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for (index, condition) in list.iter().enumerate() {
            let program = self.compile(condition, path.index(index), "expression", names, BOOL);
            conditions.extend(program.map(|program| Condition {
                name: object::name_of(condition).to_owned(),
                program,
            }));
        }
        conditions
    }

    /// The variables of a policy, and what is then known of `variables`.
    fn variables(&mut self, policy: &Value, names: &Names) -> (Vec<(String, Program)>, Kind) {
        let root = Path::root("spec.variables");
        let mut variables = Vec::new();
        let mut known = BTreeMap::new();
        for (index, variable) in object::list(policy, "spec.variables").iter().enumerate() {
            let names = names.clone().with("variables", of_variables(&known));
            let name = object::name_of(variable).to_owned();
            let program = self.compile(variable, root.index(index), "expression", &names, ANY);
            let kind = program.as_ref().map(|program| program.kind().clone());
            known.insert(name.clone(), kind.unwrap_or_default());
            variables.extend(program.map(|program| (name, program)));
        }
        (variables, of_variables(&known))
    }
}

const BOOL: (&str, fn(&Kind) -> bool) = ("bool", |kind| *kind == Kind::Bool);
const TEXT: (&str, fn(&Kind) -> bool) = ("string", |kind| *kind == Kind::Text);
const TEXT_OR_NULL: (&str, fn(&Kind) -> bool) = ("one of [string null_type]", |kind| {
    matches!(kind, Kind::Text | Kind::Null)
});
const ANY: (&str, fn(&Kind) -> bool) = ("any", |_| true);
const CONFIGURATION: (&str, fn(&Kind) -> bool) = ("Object", |kind| is_made(kind, "Object"));
const OPERATIONS: (&str, fn(&Kind) -> bool) = ("list(JSONPatch)", |kind| match kind {
    Kind::List(item, _) => **item == Kind::Dyn || is_made(item, "JSONPatch"),
    _ => false,
});

fn is_made(kind: &Kind, name: &str) -> bool {
    matches!(kind, Kind::Object(object) if object.name == name)
}

fn of_variables(known: &BTreeMap<String, Kind>) -> Kind {
    Kind::Object(Arc::new(Object {
        name: "kubernetes.variables".to_owned(),
        fields: known.clone(),
        open: false,
    }))
}

/// Compiles match conditions.
pub fn conditions(list: &[Value], path: Path<'_>, names: &Names, faults: &mut Vec<FieldError>) -> Vec<Condition> {
    Compiler { faults }.conditions(list, path, names)
}

/// What both kinds of policies have, and the names that the rest may use, with and without rights.
fn policy(policy: &Value, about: &Kind, compiler: &mut Compiler<'_>) -> (Policy, Names, Names) {
    let with_params = object::get(policy, "spec.paramKind").is_some();
    let known = |names: Names| names.with("object", about.clone()).with("oldObject", about.clone());
    let names = known(with_rights(with_params));
    let conditions = object::list(policy, "spec.matchConditions");
    let conditions = compiler.conditions(conditions, Path::root("spec.matchConditions"), &names);
    let (variables, kind) = compiler.variables(policy, &names);
    let compiled = Policy {
        conditions,
        variables,
        ..Policy::default()
    };
    let plain = known(plain(with_params)).with("variables", kind.clone());
    (compiled, names.with("variables", kind), plain)
}

/// Compiles a validating policy.
pub fn validating(object: &Value, faults: &mut Vec<FieldError>) -> Policy {
    validating_about(object, Kind::Dyn, faults)
}

/// The same as if it were only about objects of which something is known.
pub(super) fn validating_about(object: &Value, about: Kind, faults: &mut Vec<FieldError>) -> Policy {
    let mut compiler = Compiler { faults };
    let (mut compiled, names, plain) = policy(object, &about, &mut compiler);
    let list = Path::root("spec.validations");
    for (index, validation) in object::list(object, "spec.validations").iter().enumerate() {
        let here = list.index(index);
        let text = |field: &str| object::text(validation, field).trim().to_owned();
        let message_program = compiler.compile(validation, here, "messageExpression", &plain, TEXT);
        let program = compiler.compile(validation, here, "expression", &names, BOOL);
        compiled.validations.extend(program.map(|program| Validation {
            program,
            message: text("message"),
            message_program,
            reason: text("reason"),
        }));
    }
    let list = Path::root("spec.auditAnnotations");
    for (index, annotation) in object::list(object, "spec.auditAnnotations").iter().enumerate() {
        let program = compiler.compile(annotation, list.index(index), "valueExpression", &plain, TEXT_OR_NULL);
        compiled.annotations.extend(program.map(|program| Annotation {
            key: object::text(annotation, "key").to_owned(),
            program,
        }));
    }
    compiled
}

/// Compiles a mutating policy.
pub fn mutating(object: &Value, faults: &mut Vec<FieldError>) -> Policy {
    let mut compiler = Compiler { faults };
    let (mut compiled, names, _) = policy(object, &Kind::Dyn, &mut compiler);
    let names = names.making();
    let list = Path::root("spec.mutations");
    for (index, mutation) in object::list(object, "spec.mutations").iter().enumerate() {
        let here = list.index(index);
        let found = match object::text(mutation, "patchType") {
            "ApplyConfiguration" => compiler
                .compile(mutation, here, "applyConfiguration.expression", &names, CONFIGURATION)
                .map(Mutation::Apply),
            _ => compiler
                .compile(mutation, here, "jsonPatch.expression", &names, OPERATIONS)
                .map(Mutation::Patch),
        };
        compiled.mutations.extend(found);
    }
    compiled
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(compile: fn(&Value, &mut Vec<FieldError>) -> Policy, spec: Value) -> Vec<String> {
        let mut faults = Vec::new();
        compile(&json!({ "spec": spec }), &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_does_not_compile_is_told_with_its_place() {
        let one = |expression: &str| faults(validating, json!({"validations": [{"expression": expression}]}));
        assert!(one("object.spec.replicas <= 5 && request.operation == 'CREATE'").is_empty());
        assert!(one("authorizer.requestResource.check('delete').allowed()").is_empty());
        let cases = [
            (
                "1 + 1",
                "spec.validations[0].expression: Invalid value: \"1 + 1\": must evaluate to bool but got int",
            ),
            ("params.x == 1", "undeclared reference to 'params'"),
            ("request.operatoin == 'x'", "undefined field 'operatoin'"),
            ("variables.x", "undefined field 'x'"),
            ("object.x = 3", "compilation failed: ERROR: <input>:1:10: Syntax error"),
        ];
        for (source, wanted) in cases {
            let found = one(source);
            assert!(found.len() == 1 && found[0].contains(wanted), "{source}: {found:?}");
        }
    }

    #[test]
    fn variables_build_on_those_before_them() {
        let spec = |first: &str, second: &str| {
            json!({
                "variables": [{"name": "a", "expression": first}, {"name": "b", "expression": second}],
                "validations": [{"expression": "variables.b"}],
            })
        };
        assert!(faults(validating, spec("1", "variables.a > 0")).is_empty());
        let found = faults(validating, spec("variables.b", "true"));
        assert!(found[0].starts_with("spec.variables[0].expression") && found[0].contains("undefined field 'b'"));
    }

    #[test]
    fn mutations_make_objects_and_patches() {
        let apply = |expression: &str| {
            let mutation = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
            faults(mutating, json!({"mutations": [mutation]}))
        };
        let patch = |expression: &str| {
            let mutation = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}});
            faults(mutating, json!({"mutations": [mutation]}))
        };
        assert!(apply("Object{spec: Object.spec{replicas: object.spec.replicas + 1}}").is_empty());
        assert!(apply("Object{spec: Object.spec{?replicas: optional.of(1)}}").is_empty());
        assert!(patch("[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('x/y'), value: 1}]").is_empty());
        assert!(patch("has(object.x) ? [JSONPatch{op: 'remove', path: '/x'}] : []").is_empty());
        let cases = [
            (
                apply("Object{spec: Object.specx{}}"),
                "unexpected type name \"Object.specx\", expected \"Object.spec\"",
            ),
            (apply("Object.spec{}"), "must evaluate to Object but got Object.spec"),
            (apply("Boat{}"), "undeclared reference to 'Boat'"),
            (patch("[JSONPatch{operation: 'add'}]"), "undefined field 'operation'"),
            (patch("[1]"), "must evaluate to list(JSONPatch) but got list(int)"),
        ];
        for (found, wanted) in cases {
            assert!(found.len() == 1 && found[0].contains(wanted), "{wanted}: {found:?}");
        }
        let found = faults(
            validating,
            json!({"validations": [{"expression": "Object{} == object"}]}),
        );
        assert!(found[0].contains("undeclared reference to 'Object'"));
    }
}
