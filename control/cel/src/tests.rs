//! The language by examples, and its laws.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn object(fields: &[(&str, Kind)]) -> Kind {
    let fields: BTreeMap<String, Kind> = fields
        .iter()
        .map(|(name, kind)| ((*name).to_owned(), kind.clone()))
        .collect();
    Kind::Object(Arc::new(Object {
        name: "Boat".to_owned(),
        fields,
        open: false,
    }))
}

fn boat() -> Kind {
    object(&[
        ("name", Kind::Text),
        ("oars", Kind::Int),
        ("length", Kind::Double),
        ("tags", Kind::List(Arc::new(Kind::Text), true)),
        ("crew", Kind::list(object(&[("name", Kind::Text), ("age", Kind::Int)]))),
        ("labels", Kind::Map(Arc::new(Kind::Text))),
        ("since", Kind::Time),
        ("namespace", Kind::Text),
        ("any", Kind::Dyn),
    ])
}

fn names() -> Names {
    Names::new([("self", boat()), ("oldSelf", boat())])
}

fn value() -> Value {
    json!({
        "name": "ada", "oars": 4, "length": 3, "tags": ["b", "a"], "crew": [{"name": "x", "age": 30}, {"name": "y", "age": 40}],
        "labels": {"k": "v"}, "since": "2026-01-02T03:04:05Z", "namespace": "n", "any": 7,
    })
}

fn eval(source: &str) -> Result<String, String> {
    let program = Program::compile(source, &names()).map_err(|error| error.to_string())?;
    let (value, kind) = (value(), boat());
    let mut budget = Budget::new(100_000);
    let found = program.eval(&[("self", Val::json(&value, &kind))], &mut budget);
    found.map(|value| value.to_string()).map_err(|error| error.to_string())
}

#[test]
fn expressions_evaluate() {
    let cases = [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3 - -1", "10"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("7 / 2 == 3 && 7 % 2 == 1", "true"),
        ("1 == 1.0 && 1u == 1 && 2 > 1.5", "true"),
        ("self.oars > 3 ? 'many' : 'few'", "many"),
        ("self.length == 3.0", "true"),
        ("self.name.startsWith('a') && self.name.size() == 3", "true"),
        ("'x' + \"y\" + r'\\z' + '\\u0041'", "xy\\zA"),
        ("has(self.name) && !has(self.crew[0].name) || true", "true"),
        ("self.crew.all(c, c.age >= 30)", "true"),
        ("self.crew.exists(c, c.name == 'y')", "true"),
        ("self.crew.exists_one(c, c.age > 30)", "true"),
        ("self.crew.map(c, c.name)", "[x, y]"),
        ("self.crew.filter(c, c.age > 30).size()", "1"),
        ("self.crew.map(c, c.age > 30, c.name)", "[y]"),
        ("self.tags == ['a', 'b']", "true"),
        (
            "'a' in self.tags && 'k' in self.labels && !('q' in self.labels)",
            "true",
        ),
        ("self.labels['k'] + self.labels.k", "vv"),
        ("self.labels[?'q'].orValue('none')", "none"),
        ("self.?labels.?q.hasValue()", "false"),
        ("optional.of(3).optMap(x, x * 2).value()", "6"),
        ("self.since.getFullYear()", "2026"),
        ("self.since - duration('24h') < self.since", "true"),
        ("duration('90m') == duration('1h30m')", "true"),
        ("self.__namespace__", "n"),
        ("self.any == 7 && self.any != 'x'", "true"),
        ("false && 1 / 0 == 1", "false"),
        ("1 / 0 == 1 || true", "true"),
        ("[1, 1 / 0].exists(x, x == 1)", "1"),
        ("{'a': 1}.a + {'b': 2}['b']", "3"),
        ("cel.bind(x, self.oars, x * x)", "16"),
        (
            "['b', 'a'].sort() == ['a', 'b'] && [3, 1].min() == 1 && [1, 2].sum() == 3",
            "true",
        ),
        ("'a,b,c'.split(',').join('-')", "a-b-c"),
        ("'hello'.substring(1, 3) + 'x'.upperAscii()", "elX"),
        ("'%s has %d, %.2f'.format(['a', 3, 1.5])", "a has 3, 1.50"),
        (
            "'abc123'.find('[0-9]+') + string('a1b2'.findAll('[0-9]').size())",
            "1232",
        ),
        ("'ada'.matches('^[a-z]+$')", "true"),
        ("ip('10.0.0.1').family() == 4 && isIP('::1') && !isIP('x')", "true"),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3')", "true"),
        ("url('https://a.b:80/c?d=e').getHost() == 'a.b:80'", "true"),
        ("url('https://a.b:80/c?d=e').getQuery()['d'][0]", "e"),
        (
            "semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('1.0.0-rc.1')",
            "true",
        ),
        ("sets.contains([1, 2], [1]) && [1, 2, 2].distinct().size() == 2", "true"),
        ("type(1) == int && int('7') == 7 && string(7) == '7'", "true"),
        ("self.crew.all(i, c, i < 2 && c.age > 1)", "true"),
        ("'quote\\'s' // a comment", "quote's"),
        ("{'a': 1}.transformMapEntry(k, v, {string(v): k})['1']", "a"),
        ("[1, 2].transformMapEntry(i, v, v > 1, {i: v}).size()", "1"),
        ("'a-b-a'.lastIndexOf('a', 3) + 'äbä'.indexOf('ä', 1)", "2"),
        ("[1, 2, 3].slice(1, 3) == [2, 3] && [3, 1].indexOf(1) == 1", "true"),
        ("optional.unwrap([optional.of(1), optional.none()]).size()", "1"),
        (
            "lists.range(3) == [0, 1, 2] && 'abc'.split('', 2) == ['a', 'bc']",
            "true",
        ),
        ("'aXbX'.replace('X', 'y', 1) + string('q'.matches('[a-q]'))", "aybXtrue"),
        (
            "sets.equivalent([1, 2], [2, 1, 1]) && !sets.intersects([1], [2])",
            "true",
        ),
    ];
    for (source, wanted) in cases {
        let found = eval(source);
        if source.contains("[1, 1 / 0]") {
            assert!(found.is_err(), "a list is made before it is walked");
            continue;
        }
        assert_eq!(found.as_deref(), Ok(wanted), "{source}");
    }
}

#[test]
fn what_goes_wrong_is_told_in_known_words() {
    let cases = [
        ("self.labels['q'] == ''", "no such key: q"),
        ("self.crew[5].age == 1", "index out of bounds: 5"),
        ("1 / (self.oars - 4) == 1", "division by zero"),
        ("9223372036854775807 + self.oars == 0", "integer overflow"),
        ("self.any.size() == 1", "no such overload: size applied to '(int)'"),
        ("optional.none().value() == 1", "optional.none() dereference"),
    ];
    for (source, wanted) in cases {
        assert_eq!(eval(source), Err(wanted.to_owned()), "{source}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_its_place() {
    let cases = [
        (
            "self.nme == 'x'",
            "ERROR: <input>:1:5: undefined field 'nme'\n | self.nme == 'x'\n | ....^",
        ),
        (
            "nobody == 1",
            "ERROR: <input>:1:1: undeclared reference to 'nobody' (in container '')",
        ),
        ("self.name.shout()", "undeclared reference to 'shout' (in container '')"),
        (
            "self.name == 3",
            "found no matching overload for '_==_' applied to '(string, int)'",
        ),
        (
            "self.name && true",
            "found no matching overload for '_&&_' applied to '(string, bool)'",
        ),
        (
            "self.oars.size()",
            "found no matching overload for 'size' applied to '(int)'",
        ),
        (
            "self.name +",
            "Syntax error: mismatched input '<EOF>' expecting an expression",
        ),
        ("self.name == 'x", "Syntax error: unterminated string literal"),
        ("self.oars @ 3", "Syntax error: token recognition error at: '@'"),
        (
            "self.name.all(c, true)",
            "expression of type 'string' cannot be range of a comprehension",
        ),
        ("self.crew.all(c, c.height > 1)", "undefined field 'height'"),
        ("self.name.matches('[')", "error parsing regexp"),
        ("Object{}", "undeclared reference to 'Object'"),
    ];
    for (source, wanted) in cases {
        let error = Program::compile(source, &names()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{source}: {error}");
    }
    let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(Program::compile(&deep, &names()).is_err());
    assert!(Program::compile(&vec!["1"; 5000].join("+"), &names()).is_err());
    assert!(Program::compile(&"!".repeat(5000), &names()).is_err());
    assert!(Program::compile(&format!("self{}", ".any".repeat(5000)), &names()).is_err());
    // Chains within brackets within chains are as deep as all of them together.
    let spine = (0..100).fold("1".to_owned(), |inner, _| format!("({inner}){}", "+1".repeat(100)));
    assert!(Program::compile(&spine, &names()).is_err());
}

#[test]
fn the_deepest_expression_fits_the_stack() {
    let chains = [
        vec!["self.oars == 4"; 200].join(" && "),
        vec!["'a'"; 200].join(" + "),
        format!("{}[1]{}", "[0].map(x, ".repeat(60), ")".repeat(60)),
        (0..60).fold("1".to_owned(), |inner, _| format!("cel.bind(a, {inner}, a)")),
        format!("{}1{}", "[".repeat(110), "]".repeat(110)),
    ];
    for source in chains {
        let found = eval(&source);
        assert!(found.is_ok(), "{source}: {found:?}");
    }
}

#[test]
fn variables_are_made_when_they_are_asked_for() {
    let one = Program::compile("self.oars + 1", &names()).unwrap();
    let known = Object {
        name: "variables".to_owned(),
        fields: BTreeMap::from([("one".to_owned(), Kind::Int), ("bad".to_owned(), Kind::Int)]),
        open: false,
    };
    let names = names().with("variables", Kind::Object(Arc::new(known)));
    let compile = |source: &str| Program::compile(source, &names).unwrap();
    let lazy = vec![
        ("one".to_owned(), one),
        ("bad".to_owned(), compile("1 / (variables.one - 5)")),
    ];
    let (value, kind) = (value(), boat());
    let mut scope = Scope::new([("self", Val::json(&value, &kind))]).with_lazy(&lazy);
    let mut eval = |source: &str, units: u64| {
        let found = scope.eval(&compile(source), &mut Budget::new(units));
        found.map(|value| value.to_string()).map_err(|error| error.to_string())
    };
    assert_eq!(eval("true || variables.bad == 1", 100), Ok("true".to_owned()));
    assert_eq!(
        eval("variables.one", 1),
        Err("operation cancelled: actual cost limit exceeded".to_owned())
    );
}

#[test]
fn a_variable_is_made_once_and_sees_no_macros() {
    let own = Program::compile("self.oars", &names()).unwrap();
    let lazy = vec![("oars".to_owned(), own)];
    let names = names().with("variables", Kind::Dyn);
    let compile = |source: &str| Program::compile(source, &names).unwrap();
    let (value, kind) = (value(), boat());
    let mut scope = Scope::new([("self", Val::json(&value, &kind))]).with_lazy(&lazy);
    let shadowed = compile("[1, 2].all(self, variables.oars == 4) && has(variables.oars)");
    let mut budget = Budget::new(100);
    assert_eq!(scope.eval(&shadowed, &mut budget), Ok(Val::Bool(true)));
    let before = budget.left();
    assert_eq!(scope.eval(&compile("variables.oars"), &mut budget), Ok(Val::Int(4)));
    assert_eq!(before - budget.left(), 1);
}

#[test]
fn objects_are_made_and_become_json() {
    let names = names().making();
    let source = "Object{spec: Object.spec{replicas: self.oars, ?paused: self.labels[?'q'].optMap(q, true), names: self.crew.map(c, c.name)}}";
    let program = Program::compile(source, &names).unwrap();
    assert_eq!(program.kind().to_string(), "Object");
    let (value, kind) = (value(), boat());
    let mut budget = Budget::new(1000);
    let made = program
        .eval(&[("self", Val::json(&value, &kind))], &mut budget)
        .unwrap();
    assert_eq!(
        made.to_json(&mut budget).unwrap(),
        json!({"spec": {"names": ["x", "y"], "replicas": 4}})
    );
    assert!(made.to_json(&mut Budget::new(3)).is_err());
}

#[test]
fn nothing_runs_for_ever() {
    let list = "[0,1,2,3,4,5,6,7,8,9]";
    let mut source = "true".to_owned();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        source = format!("{list}.all({name}, {source})");
    }
    assert_eq!(
        eval(&source),
        Err("operation cancelled: actual cost limit exceeded".to_owned())
    );
    let mut source = "'xxxxxxxxxx'".to_owned();
    for _ in 0..40 {
        source = format!("cel.bind(a, {source}, a + a)");
    }
    assert_eq!(
        eval(&source),
        Err("operation cancelled: actual cost limit exceeded".to_owned()),
        "texts do not grow for ever"
    );
}

#[test]
fn what_would_be_large_is_paid_for_before_it_is_made() {
    let large = "cel.bind(t, lists.range(1000).map(i, '0123456789').join(''), ";
    for source in [
        "t.replace('', t)",
        "t.split('').map(c, t).join(t)",
        "lists.range(9223372036854775807)",
        "'%s%s%s%s%s%s%s%s%s%s'.format([t, t, t, t, t, t, t, t, t, t]).replace('', t)",
        "lists.range(400).exists(i, 'a'.matches('b' + string(i)))",
    ] {
        let found = eval(&format!("{large}{source})"));
        assert_eq!(
            found,
            Err("operation cancelled: actual cost limit exceeded".to_owned()),
            "{source}"
        );
    }
    let same = "cel.bind(t, lists.range(1000).map(i, lists.range(i % 3)), lists.range(100).all(i, t == t))";
    assert!(eval(same).is_err(), "looking at all of a value costs all of it");
}

#[test]
fn what_is_used_is_known() {
    let program = Program::compile("self.oars >= oldSelf.oars", &names()).unwrap();
    assert!(program.uses("oldSelf") && program.uses("self"));
    assert_eq!(*program.kind(), Kind::Bool);
    assert!(!Program::compile("self.oars > 1", &names()).unwrap().uses("oldSelf"));
}

/// Any JSON.
fn arbitrary() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z.]{0,4}", inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(source in "[a-z0-9 .()\\[\\]{}'\"+*/%!?:&|<>=,_-]{0,60}") {
        if let Ok(program) = Program::compile(&source, &names()) {
            let (value, kind) = (value(), boat());
            let _ = program.eval(&[("self", Val::json(&value, &kind))], &mut Budget::new(10_000));
        }
    }

    #[test]
    fn pieces_of_the_language_in_any_order_never_panic(pieces in prop::collection::vec(prop::sample::select(vec![
        "self", ".name", ".oars", ".crew", ".tags", "[0]", ".all(x, ", ".map(x, ", "x", ")", "(", " + ", " == ", " && ", "1", "1.5", "'a'", "!", "-", " ? ", " : ", "has(", ".size()", "{'a': ", "}", "[", "]", ", ", " in ", ".?", "optional.of(", ".sort()", ".format(",
        "Object{a: ", "JSONPatch{op: ", ".matches(", ".replace(", "duration(", "timestamp(", ".since", ".getHours(", "cidr('10.0.0.0/8')", ".transformMapEntry(x, y, ", ".slice(", "9223372036854775807", "-9223372036854775808", " / ", " % ",
    ]), 0..14), any in arbitrary()) {
        let names = names().making();
        if let Ok(program) = Program::compile(&pieces.concat(), &names) {
            let mut value = value();
            value["any"] = any;
            let kind = boat();
            let mut budget = Budget::new(10_000);
            let found = program.eval(&[("self", Val::json(&value, &kind))], &mut budget);
            if let Ok(found) = found {
                let _ = found.to_json(&mut budget);
            }
            prop_assert!(budget.left() <= 10_000);
        }
    }

    #[test]
    fn what_is_read_is_what_was_there(any in arbitrary()) {
        let mut budget = Budget::new(u64::MAX);
        let program = Program::compile("self", &Names::new([("self", Kind::Dyn)])).unwrap();
        let read = program.eval(&[("self", Val::json(&any, &Kind::Dyn))], &mut budget).unwrap();
        prop_assert_eq!(&read.to_json(&mut budget).unwrap(), &any);
        let same = Program::compile("self == self", &Names::new([("self", Kind::Dyn)])).unwrap();
        prop_assert_eq!(same.eval(&[("self", Val::json(&any, &Kind::Dyn))], &mut budget), Ok(Val::Bool(true)));
    }

    #[test]
    fn numbers_add_as_numbers_do(one: i32, other: i32) {
        let (one, other) = (i64::from(one), i64::from(other));
        prop_assert_eq!(eval(&format!("{one} + ({other})")), Ok((one + other).to_string()));
        prop_assert_eq!(eval(&format!("{one} < ({other})")), Ok((one < other).to_string()));
    }
}
