//! How much a request takes of a device that several share.

use std::collections::BTreeMap;

use coracle_api::quantity::Quantity;
use k8s_openapi::api::resource::v1::{CapacityRequestPolicy, CapacityRequestPolicyRange, DeviceCapacity};

use super::device::{Device, amount};

/// What a request takes of each capacity of the device, under the names of the slice; `None` if the device lacks one, or
/// does not give such an amount.
#[must_use]
pub fn consumed<'d>(device: &'d Device, wanted: &BTreeMap<String, Quantity>) -> Option<BTreeMap<&'d str, Quantity>> {
    let mut asked = BTreeMap::new();
    for (name, amount) in wanted {
        asked.insert(found(device, name)?, *amount);
    }
    let all = device.spec.capacity.iter().flatten();
    all.map(|(name, capacity)| {
        let wanted = asked.get(name.as_str()).copied();
        Some((name.as_str(), given(wanted, capacity)?))
    })
    .collect()
}

/// The name in the slice of what a request names, with the driver's domain or without.
fn found<'d>(device: &'d Device, name: &str) -> Option<&'d str> {
    let full = |name: &str| match name.contains('/') {
        true => name.to_owned(),
        false => format!("{}/{name}", device.id.driver),
    };
    let mut names = device.spec.capacity.as_ref()?.keys();
    names.find(|known| full(known) == full(name)).map(String::as_str)
}

fn given(wanted: Option<Quantity>, capacity: &DeviceCapacity) -> Option<Quantity> {
    let policy = capacity.request_policy.as_ref();
    match (wanted, policy) {
        (None, policy) => {
            let default = policy.and_then(|policy| policy.default.as_ref());
            Some(amount(default.unwrap_or(&capacity.value)))
        }
        (Some(wanted), None) => Some(wanted),
        (Some(wanted), Some(policy)) => by_policy(wanted, policy),
    }
}

fn by_policy(wanted: Quantity, policy: &CapacityRequestPolicy) -> Option<Quantity> {
    if let Some(range) = &policy.valid_range {
        return within(wanted, range);
    }
    match &policy.valid_values {
        Some(values) => values
            .iter()
            .map(amount)
            .filter(|value| value.nanos() >= wanted.nanos())
            .min_by_key(|value| value.nanos()),
        None => Some(wanted),
    }
}

/// The least amount of the range that is enough.
fn within(wanted: Quantity, range: &CapacityRequestPolicyRange) -> Option<Quantity> {
    let least = amount(&range.min);
    let mut given = if wanted.nanos() > least.nanos() { wanted } else { least };
    let step = range.step.as_ref().map(amount).filter(|step| step.nanos() > 0);
    if let Some(step) = step {
        let over = (given - least).nanos().checked_rem(step.nanos())?;
        if over > 0 {
            // From the last step on to the next one.
            given = given + step - nanos(over)?;
        }
    }
    let most = range.max.as_ref().map(amount);
    most.is_none_or(|most| given.nanos() <= most.nanos()).then_some(given)
}

fn nanos(amount: i128) -> Option<Quantity> {
    Quantity::parse(&format!("{amount}n")).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn device(capacity: Value) -> Arc<Device> {
        let slice = json!({"metadata": {"name": "s"}, "spec": {"driver": "d.io", "allNodes": true,
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "x", "allowMultipleAllocations": true, "capacity": capacity}]}});
        let slice = Arc::new(serde_json::from_value(slice).unwrap());
        Device::all_of(&slice).remove(0)
    }

    fn taken(capacity: Value, wanted: Value) -> Option<Value> {
        let device = device(capacity);
        let wanted: BTreeMap<String, String> = serde_json::from_value(wanted).unwrap();
        let wanted = wanted
            .into_iter()
            .map(|(name, text)| (name, Quantity::parse(&text).unwrap()))
            .collect();
        let taken = consumed(&device, &wanted)?;
        Some(json!(
            taken
                .into_iter()
                .map(|(name, amount)| (name, amount.to_string()))
                .collect::<BTreeMap<_, _>>()
        ))
    }

    #[test]
    fn a_share_is_what_the_device_gives_and_not_less_than_was_asked() {
        let plain = json!({"memory": {"value": "8Gi"}});
        assert_eq!(
            taken(plain.clone(), json!({})),
            Some(json!({"memory": "8Gi"})),
            "all of it if nothing is said"
        );
        assert_eq!(
            taken(plain.clone(), json!({"d.io/memory": "1Gi"})),
            Some(json!({"memory": "1Gi"}))
        );
        assert_eq!(taken(plain, json!({"cores": "1"})), None, "it has no such thing");
        let default = json!({"memory": {"value": "8Gi", "requestPolicy": {"default": "2Gi"}}});
        assert_eq!(taken(default, json!({})), Some(json!({"memory": "2Gi"})));
        let range = json!({"memory": {"value": "8Gi", "requestPolicy": {"default": "1Gi",
            "validRange": {"min": "1Gi", "step": "2Gi", "max": "5Gi"}}}});
        for (asked, given) in [
            ("500Mi", Some("1Gi")),
            ("1Gi", Some("1Gi")),
            ("2Gi", Some("3Gi")),
            ("5Gi", Some("5Gi")),
            ("6Gi", None),
        ] {
            let found = taken(range.clone(), json!({"memory": asked}));
            assert_eq!(found, given.map(|given| json!({"memory": given})), "{asked}");
        }
        let values =
            json!({"cores": {"value": "8", "requestPolicy": {"default": "1", "validValues": ["1", "2", "4"]}}});
        for (asked, given) in [("1", Some("1")), ("3", Some("4")), ("5", None)] {
            let found = taken(values.clone(), json!({"cores": asked}));
            assert_eq!(found, given.map(|given| json!({"cores": given})), "{asked}");
        }
    }
}
