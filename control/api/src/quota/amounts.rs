//! Amounts of resources under names, and how many of them a pod asks for.

use std::collections::BTreeMap;

use crate::object;
use crate::quantity::Quantity;
use serde_json::{Map, Value, json};

/// Amounts by the names of their resources.
pub type Amounts = BTreeMap<String, Quantity>;

/// The amounts in a list of an object; what cannot be read is not there.
pub fn read(object: &Value, path: &str) -> Amounts {
    let entries = object::map(object, path).into_iter().flatten();
    let amount = |value: &Value| Quantity::parse(value.as_str()?).ok();
    entries
        .filter_map(|(name, value)| Some((name.clone(), amount(value)?)))
        .collect()
}

/// Amounts as they stand in an object.
pub fn write(amounts: &Amounts) -> Value {
    let entries = amounts
        .iter()
        .map(|(name, amount)| (name.clone(), json!(amount.to_string())));
    Value::Object(entries.collect::<Map<String, Value>>())
}

/// Adds amounts to others.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let known = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *known = *known + *amount;
    }
}

fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let known = to.entry(name.clone()).or_insert(Quantity::ZERO);
        if *known < *amount {
            *known = *amount;
        }
    }
}

/// What a pod asks for (`requests`) or may take (`limits`): its containers together, or while it starts the largest of its
/// init containers, those that go on running included; and what running it costs on top.
pub fn of_pod(pod: &Value, which: &str) -> Amounts {
    let path = format!("resources.{which}");
    let mut sum = Amounts::new();
    for container in object::list(pod, "spec.containers") {
        add(&mut sum, &read(container, &path));
    }
    let (mut going_on, mut starting) = (Amounts::new(), Amounts::new());
    for container in object::list(pod, "spec.initContainers") {
        let own = read(container, &path);
        if object::text(container, "restartPolicy") == "Always" {
            add(&mut going_on, &own);
            raise(&mut starting, &going_on);
        } else {
            let mut together = going_on.clone();
            add(&mut together, &own);
            raise(&mut starting, &together);
        }
    }
    add(&mut sum, &going_on);
    raise(&mut sum, &starting);
    let overhead = read(pod, "spec.overhead");
    match which {
        // The overhead limits only what is limited at all.
        "limits" => {
            for (name, amount) in overhead {
                if let Some(known) = sum.get_mut(&name) {
                    *known = *known + amount;
                }
            }
        }
        _ => add(&mut sum, &overhead),
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_containers_run_one_after_the_other() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("1");
        sidecar["restartPolicy"] = json!("Always");
        for (init, sum) in [
            (json!([]), "3"),
            (json!([container("5"), container("4")]), "5"),
            (json!([sidecar, container("1")]), "4"),
            (json!([sidecar, container("6")]), "7"),
        ] {
            let pod = json!({"spec": {"containers": [container("1"), container("2")], "initContainers": init}});
            assert_eq!(of_pod(&pod, "requests")["cpu"].to_string(), sum, "{init}");
        }
    }
}
