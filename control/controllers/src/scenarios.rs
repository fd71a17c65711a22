//! Walks the scenarios: what each controller decides, written down for people who know Kubernetes.
//!
//! `scenarios/<controller>/*.yaml` holds worlds (`given`), and for each case what differs (`with`, `without`), what the
//! server answers when it is asked (`answers`), and the plan that is expected. `scenarios/README.md` says how they are
//! written. Each case is also carried out, again and again: the world must come to rest, and at rest nothing is written.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    CONTROLLERS,
    ask::{Answers, Ask},
    driver::{Controller, Failure, Turn},
    key::Key,
    plan::{Action, EventDraft, Guard, Note, Plan, Propagation, Target, Verb},
    resource::{self, Resource},
    simulation::{Simulation, merge},
    world::Facts,
};

/// Turns after which a world that is still written to is said never to come to rest.
const TURNS_LIMIT: usize = 50;
const NOW: &str = "2026-01-01T12:00:00Z";
const CREATED: &str = "2026-01-01T00:00:00Z";
const CLUSTER_WIDE: [&str; 8] = [
    "CertificateSigningRequest",
    "ClusterRole",
    "DeviceClass",
    "Namespace",
    "Node",
    "PersistentVolume",
    "ResourceSlice",
    "StorageClass",
];
/// The kinds that own others, for references that name only kind and name.
static OWNERS: [Resource; 10] = [
    resource::CRON_JOBS,
    resource::DAEMON_SETS,
    resource::DEPLOYMENTS,
    resource::ENDPOINTS,
    resource::JOBS,
    resource::PODS,
    resource::REPLICA_SETS,
    resource::REPLICATION_CONTROLLERS,
    resource::SERVICES,
    resource::STATEFUL_SETS,
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    given: Vec<Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    /// Whom to decide about; the first given object of the controller's kind if not said.
    key: Option<String>,
    #[serde(default)]
    with: Vec<Value>,
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    answers: BTreeMap<String, Value>,
    failure: Option<String>,
    root_ca: Option<String>,
    node_networks: Option<String>,
    /// What is looked up live before anything is written.
    #[serde(default)]
    checks: Vec<String>,
    #[serde(default)]
    plan: Vec<Value>,
    #[serde(default)]
    events: Vec<String>,
    /// When to look again, as `+40s` from now.
    again: Option<String>,
    /// Whether the world comes to rest when the plan is carried out; it does if not said.
    settles: Option<bool>,
}

#[test]
fn every_controller_decides_as_its_scenarios_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let (mut wrong, mut count) = (Vec::new(), 0);
    for controller in CONTROLLERS {
        let directory = root.join(controller.name);
        let files = yaml_files(&directory);
        assert!(!files.is_empty(), "{} has no scenarios", controller.name);
        for path in files {
            let (value, problems) = coracle_api::yaml::parse(&fs::read(&path).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
            assert!(problems.is_empty(), "{}: {problems:?}", path.display());
            let file: File =
                serde_json::from_value(value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for case in &file.cases {
                count += 1;
                let shown = path.strip_prefix(&root).unwrap().display().to_string();
                let outcome = std::panic::catch_unwind(|| check(controller, &file, case));
                let fault = outcome.unwrap_or_else(|_| Some("panicked".to_owned()));
                wrong.extend(fault.map(|fault| format!("{shown}: {}:\n{fault}", case.case)));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} cases:\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
    for entry in fs::read_dir(&root)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().is_dir())
    {
        let name = entry.file_name();
        let known = CONTROLLERS.iter().any(|controller| name == controller.name);
        assert!(known, "{name:?} is no controller");
    }
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

/// What is wrong with what the controller does in this case.
fn check(controller: &Controller, file: &File, case: &Case) -> Option<String> {
    let mut world = world(file, case);
    let key = key(controller, file, case);
    let answers = answers(case);
    let failure = case.failure.as_ref().map(|message| Failure {
        creating: true,
        code: 403,
        message: message.clone(),
    });
    let turn = Turn {
        now: now(),
        failure: failure.as_ref(),
        answers: &answers,
    };
    let plan = (controller.reconcile)(&key, world.scene.world(), &turn);
    let fault = differs(&plan, case);
    if fault.is_some() || case.settles == Some(false) {
        return fault;
    }
    world.carry_out(&plan);
    let turn = Turn { failure: None, ..turn };
    for _ in 0..TURNS_LIMIT {
        let plan = (controller.reconcile)(&key, world.scene.world(), &turn);
        if plan.is_settled() {
            return None;
        }
        world.carry_out(&plan);
    }
    let last = (controller.reconcile)(&key, world.scene.world(), &turn);
    Some(format!(
        "the world never comes to rest; the last plan is\n{}",
        shown(&last)
    ))
}

fn world(file: &File, case: &Case) -> Simulation {
    let mut objects: Vec<Value> = file.given.clone();
    for gone in &case.without {
        let before = objects.len();
        let (kind, name) = gone.split_once(' ').unwrap();
        objects.retain(|object| object["kind"] != kind || object["metadata"]["name"] != name);
        assert!(objects.len() < before, "there is no {gone} to be without");
    }
    for changed in &case.with {
        let name = |object: &Value| {
            let meta = &object["metadata"];
            (object["kind"].clone(), meta["namespace"].clone(), meta["name"].clone())
        };
        match objects.iter_mut().find(|object| name(object) == name(changed)) {
            Some(found) => merge(found, changed),
            None => objects.push(changed.clone()),
        }
    }
    let mut world = Simulation::with_facts(Facts {
        root_ca_pem: case.root_ca.clone(),
        node_networks: case.node_networks.as_ref().map(|text| network(text)),
        ..Facts::default()
    });
    world.now = now();
    for object in objects {
        world.put(completed(object));
    }
    world
}

fn network(text: &str) -> crate::node_ipam::Network {
    let (cidr, node_prefix) = text.split_once(" by ").unwrap();
    let (base, prefix) = cidr.split_once('/').unwrap();
    crate::node_ipam::Network {
        base: base.parse().unwrap(),
        prefix: prefix.parse().unwrap(),
        node_prefix: node_prefix.trim_start_matches('/').parse().unwrap(),
    }
}

/// The object with what its author may leave out.
fn completed(mut object: Value) -> Value {
    at_times(&mut object);
    let cluster_wide = CLUSTER_WIDE.contains(&object["kind"].as_str().unwrap());
    let meta = &mut object["metadata"];
    let name = meta["name"].as_str().expect("objects have names").to_owned();
    let mut fill = |field: &str, value: Value| {
        if meta.get(field).is_none_or(Value::is_null) {
            meta[field] = value;
        }
    };
    fill("uid", name.into());
    fill("generation", 1.into());
    fill("creationTimestamp", CREATED.into());
    if !cluster_wide {
        fill("namespace", "default".into());
    }
    for owner in meta["ownerReferences"].as_array_mut().into_iter().flatten() {
        let kind = owner["kind"].as_str().unwrap().to_owned();
        if owner.get("apiVersion").is_none() {
            let known = OWNERS.iter().find(|resource| resource.kind == kind);
            owner["apiVersion"] = known.unwrap_or_else(|| panic!("{kind}")).api_version().into();
        }
        for (field, value) in [("uid", owner["name"].clone()), ("controller", true.into())] {
            if owner.get(field).is_none() {
                owner[field] = value;
            }
        }
    }
    if meta["ownerReferences"].is_null() {
        meta.as_object_mut().unwrap().remove("ownerReferences");
    }
    object
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// `now`, `now-40s` and the like become times.
fn at_times(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(offset) = text.strip_prefix("now")
                && (offset.is_empty() || offset.starts_with(['+', '-']))
            {
                *text = at(offset).to_string();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(at_times),
        Value::Object(fields) => fields.values_mut().for_each(at_times),
        _ => {}
    }
}

/// The time that is `+40s` from now.
fn at(offset: &str) -> Timestamp {
    if offset.is_empty() {
        return now();
    }
    let (sign, length) = offset.split_at(1);
    let length: SignedDuration = length.parse().unwrap_or_else(|error| panic!("{offset}: {error}"));
    now() + if sign == "-" { -length } else { length }
}

fn key(controller: &Controller, file: &File, case: &Case) -> Key {
    if let Some(key) = &case.key {
        return match key.split_once('/') {
            Some((namespace, name)) => Key::new(namespace, name),
            None => Key::cluster(key),
        };
    }
    let own = |object: &&Value| object["kind"] == controller.resource.kind.as_ref();
    let first = file.given.iter().chain(&case.with).find(own);
    let first = completed(first.expect("a key, or an object of the controller's kind").clone());
    let text = |field: &str| first["metadata"][field].as_str().unwrap_or_default().to_owned();
    Key::new(&text("namespace"), &text("name"))
}

fn answers(case: &Case) -> Answers {
    let mut answers = Answers::none();
    for (path, answer) in &case.answers {
        let mut answer = answer.clone();
        at_times(&mut answer);
        let refused = answer["refused"].as_u64().map(|code| Failure {
            creating: false,
            code: u16::try_from(code).unwrap(),
            message: answer["message"].as_str().unwrap_or_default().to_owned(),
        });
        let (path, review) = match path.split_once(' ') {
            Some((path, review)) => (path, Some(serde_json::from_str(review).unwrap())),
            None => (path.as_str(), None),
        };
        let ask = Ask {
            path: path.to_owned(),
            review,
        };
        answers.take(&ask, refused.map_or(Ok(answer), Err));
    }
    answers
}

fn differs(plan: &Plan, case: &Case) -> Option<String> {
    let fault = |what: &str| Some(format!("{what}; the plan is\n{}", shown(plan)));
    if !plan.asks.is_empty() {
        let asked: Vec<String> = plan.asks.iter().map(|ask| format!("{ask:?}")).collect();
        return Some(format!("asks what nobody answers:\n{}", asked.join("\n")));
    }
    let mut found: Vec<(String, Value)> = plan.actions().map(told).collect();
    found.reverse();
    for wanted in &case.plan {
        let (head, body) = wanted_action(wanted);
        let (head, times) = match head.rsplit_once(" x ") {
            Some((head, times)) => (head.to_owned(), times.parse().unwrap()),
            None => (head, 1),
        };
        for _ in 0..times {
            match found.pop() {
                None => return fault(&format!("{head} is missing")),
                Some((is, _)) if is != head => return fault(&format!("not {head}, but {is}")),
                Some((_, is)) => {
                    if let Some(path) = lacks(&is, &body) {
                        return fault(&format!("{head}: {path}"));
                    }
                }
            }
        }
    }
    if let Some((head, _)) = found.pop() {
        return fault(&format!("{head} is not expected"));
    }
    let checks: Vec<String> = plan.guards.iter().map(checked).collect();
    if checks != case.checks {
        return Some(format!("the checks are\n{}", json_lines(&checks)));
    }
    let events = events(plan);
    if events != case.events {
        return Some(format!("the events are\n{}", json_lines(&events)));
    }
    let again = plan.requeue_at.map(|when| when.duration_since(now()));
    let wanted = case.again.as_ref().map(|offset| at(offset).duration_since(now()));
    if wanted.is_some() && again != wanted {
        return Some(format!("looks again at {again:?}"));
    }
    None
}

fn wanted_action(wanted: &Value) -> (String, Value) {
    let mut wanted = wanted.clone();
    at_times(&mut wanted);
    match wanted {
        Value::String(head) => (head, Value::Null),
        Value::Object(fields) => {
            let (head, body) = fields.into_iter().next().unwrap();
            (head, body)
        }
        other => panic!("{other} is no action"),
    }
}

fn told(action: &Action) -> (String, Value) {
    let (kind, name) = (&action.target.resource.kind, &action.target.key.name);
    match &action.verb {
        Verb::Create(body) if name.is_empty() => (format!("create {kind}"), body.clone()),
        Verb::Create(body) => (format!("create {kind} {name}"), body.clone()),
        Verb::Merge { subresource, patch } => {
            let part = subresource.map(|part| format!(" {part}")).unwrap_or_default();
            (format!("patch {kind} {name}{part}"), patch.clone())
        }
        Verb::Replace { subresource, body } => (format!("replace {kind} {name} {subresource}"), body.clone()),
        Verb::Delete {
            propagation,
            grace_period_seconds,
            ..
        } => {
            let propagation = match propagation {
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
                Propagation::Orphan => "Orphan",
            };
            let body = json!({"propagationPolicy": propagation, "gracePeriodSeconds": grace_period_seconds});
            (format!("delete {kind} {name}"), body)
        }
        Verb::DeleteCollection => (format!("delete all {kind}"), Value::Null),
    }
}

fn checked(guard: &Guard) -> String {
    let named = |target: &Target| format!("{} {}", target.resource.kind, target.key.name);
    match guard {
        Guard::Absent(target, uid) if uid.is_empty() => format!("{} is gone", named(target)),
        Guard::Absent(target, uid) => format!("{} with uid {uid} is gone", named(target)),
        Guard::Alive(target, _) => format!("{} is there", named(target)),
        Guard::Empty(namespace) => format!("namespace {namespace} is empty"),
        Guard::Unreferenced {
            uid, blocking: true, ..
        } => format!("nothing blocks the end of {uid}"),
        Guard::Unreferenced { uid, .. } => format!("nothing is owned by {uid}"),
    }
}

/// Events that are told when all goes well, as `Normal Reason message`.
fn events(plan: &Plan) -> Vec<String> {
    let draft = |event: &EventDraft| {
        let kind = if event.warning { "Warning" } else { "Normal" };
        format!("{kind} {} {}", event.reason, event.message)
    };
    let note = |note: &Note| {
        let (reason, message) = note.success.as_ref()?;
        Some(format!("Normal {reason} {message}"))
    };
    let mut told: Vec<String> = Vec::new();
    let noted = plan.actions().filter_map(|action| action.note.as_ref().and_then(note));
    for line in noted.chain(plan.events.iter().map(draft)) {
        if told.last() != Some(&line) {
            told.push(line);
        }
    }
    told
}

/// Where `found` lacks what is wanted. Objects may have more; lists have as many items, each as wanted. `null` means that
/// a field is absent or null.
fn lacks(found: &Value, wanted: &Value) -> Option<String> {
    match (found, wanted) {
        (_, Value::Null) => None,
        (Value::Object(found), Value::Object(wanted)) => wanted.iter().find_map(|(name, wanted)| {
            let found = found.get(name).unwrap_or(&Value::Null);
            if wanted.is_null() && !found.is_null() {
                return Some(format!("{name} is {found}"));
            }
            lacks(found, wanted).map(|path| format!("{name}.{path}"))
        }),
        (Value::Array(found), Value::Array(wanted)) if found.len() == wanted.len() => {
            let mut pairs = found.iter().zip(wanted).enumerate();
            pairs.find_map(|(index, (found, wanted))| Some(format!("{index}.{}", lacks(found, wanted)?)))
        }
        (found, wanted) => (found != wanted).then(|| format!(" is {found}, not {wanted}")),
    }
}

fn shown(plan: &Plan) -> String {
    let actions = plan.actions().map(|action| {
        let (head, body) = told(action);
        format!("  - {head}: {body}")
    });
    let again = plan
        .requeue_at
        .map(|when| format!("  again: {when} ({})", when.duration_since(now())));
    let lines: Vec<String> = actions.chain(again).collect();
    format!("{}\n  events: {}", lines.join("\n"), json_lines(&events(plan)))
}

fn json_lines(lines: &[String]) -> String {
    let quoted: Vec<String> = lines.iter().map(|line| format!("  - {line:?}")).collect();
    format!("\n{}", quoted.join("\n"))
}
