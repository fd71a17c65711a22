//! Expressions over an object, all of it anybody's: the expression and the object with a zero byte between. Whatever they
//! are, compiling and evaluating end, within the budget.
#![no_main]

use coracle_api::policy::{self, Mutation};
use coracle_cel::{Budget, Kind, Names, Program, Scope, Val};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static ANYTHING: Kind = Kind::Dyn;
/// Little, so that many inputs are tried.
const UNITS: u64 = 20_000;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (source, object) = text.split_once('\0').unwrap_or((text, "{}"));
    let object: Value = serde_json::from_str(object).unwrap_or_default();
    let names = Names::new([("object", Kind::Dyn)])
        .using(policy::library::LIBRARIES)
        .making();
    if let Ok(program) = Program::compile(source, &names) {
        evaluate(&program, &object);
    }
    // The same text as the mutation of a policy, which may use more.
    let mutation = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": source}});
    let compiled = policy::mutating(&json!({"spec": {"mutations": [mutation]}}), &mut Vec::new());
    for mutation in &compiled.mutations {
        let (Mutation::Apply(program) | Mutation::Patch(program)) = mutation;
        evaluate(program, &object);
    }
});

fn evaluate(program: &Program, object: &Value) {
    let mut budget = Budget::new(UNITS);
    let mut scope = Scope::new([("object", Val::json(object, &ANYTHING))]);
    if let Ok(value) = scope.eval(program, &mut budget) {
        let _ = value.to_json(&mut budget);
    }
    assert!(budget.left() <= UNITS);
}
