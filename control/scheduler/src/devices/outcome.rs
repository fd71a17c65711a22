//! From the devices that were chosen to what stands in a claim's status.

use k8s_openapi::{
    api::{
        core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
        resource::v1::{
            AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceRequestAllocationResult,
        },
    },
    apimachinery::pkg::api::resource::Quantity as Amount,
};

use super::{Devices, claim::Claim, search::Pick};

/// The allocation of one claim, on a node. `ids` makes up what tells the shares of a device apart.
#[must_use]
pub fn allocation(
    devices: &Devices,
    claim: &Claim,
    picks: &[&Pick<'_>],
    node: &str,
    ids: &mut dyn FnMut() -> String,
) -> AllocationResult {
    let results: Vec<DeviceRequestAllocationResult> = picks.iter().map(|pick| result(pick, ids)).collect();
    let config = configuration(devices, claim, picks);
    AllocationResult {
        allocation_timestamp: None,
        devices: Some(DeviceAllocationResult {
            config: (!config.is_empty()).then_some(config),
            results: (!results.is_empty()).then_some(results),
        }),
        node_selector: selector(picks, node),
    }
}

fn result(pick: &Pick<'_>, ids: &mut dyn FnMut() -> String) -> DeviceRequestAllocationResult {
    let (id, spec) = (&pick.device.id, &pick.device.spec);
    let consumed = pick.consumed.as_ref().map(|amounts| {
        let named = amounts.iter();
        named
            .map(|(name, amount)| ((*name).to_owned(), Amount(amount.to_string())))
            .collect()
    });
    DeviceRequestAllocationResult {
        admin_access: pick.choice.admin.then_some(true),
        binding_conditions: spec.binding_conditions.clone(),
        binding_failure_conditions: spec.binding_failure_conditions.clone(),
        share_id: consumed.is_some().then(ids),
        consumed_capacity: consumed,
        device: id.device.to_string(),
        driver: id.driver.to_string(),
        pool: id.pool.to_string(),
        request: pick.choice.name.clone(),
        tolerations: Some(pick.choice.tolerations.clone()).filter(|all| !all.is_empty()),
    }
}

/// What classes and the claim pass on to drivers: of a class once, for the requests that are served by it; of the claim
/// what is for a request, in the way in which it is served.
fn configuration(devices: &Devices, claim: &Claim, picks: &[&Pick<'_>]) -> Vec<DeviceAllocationConfiguration> {
    let mut served: Vec<(&str, &str)> = Vec::new();
    for pick in picks {
        let way = (pick.choice.class.as_str(), pick.choice.name.as_str());
        if !served.contains(&way) {
            served.push(way);
        }
    }
    let mut all: Vec<DeviceAllocationConfiguration> = Vec::new();
    let mut classes: Vec<&str> = served.iter().map(|(class, _)| *class).collect();
    let mut seen = std::collections::HashSet::new();
    classes.retain(|class| seen.insert(*class));
    for class in classes {
        let of_class = served.iter().filter(|(other, _)| *other == class);
        let requests: Vec<String> = of_class.map(|(_, name)| (*name).to_owned()).collect();
        let known = devices.classes.get(class);
        for config in known
            .into_iter()
            .flat_map(|class| class.object.spec.config.iter().flatten())
        {
            all.push(DeviceAllocationConfiguration {
                opaque: config.opaque.clone(),
                requests: Some(requests.clone()),
                source: "FromClass".to_owned(),
            });
        }
    }
    let own = claim
        .object
        .spec
        .devices
        .iter()
        .flat_map(|devices| devices.config.iter().flatten());
    for config in own {
        let named = config.requests.as_deref().unwrap_or_default();
        let meant = |(_, name): &&(&str, &str)| {
            let request = name.split('/').next().unwrap_or_default();
            named.iter().any(|wanted| wanted == name || wanted == request)
        };
        if named.is_empty() || served.iter().any(|way| meant(&way)) {
            all.push(DeviceAllocationConfiguration {
                opaque: config.opaque.clone(),
                requests: config.requests.clone(),
                source: "FromClaim".to_owned(),
            });
        }
    }
    // What is for all requests names none.
    for config in &mut all {
        if config
            .requests
            .as_ref()
            .is_some_and(|named| named.len() == claim.requests.len())
        {
            config.requests = None;
        }
    }
    all
}

/// Where the devices can be used; `None` if that is everywhere.
fn selector(picks: &[&Pick<'_>], node: &str) -> Option<NodeSelector> {
    let mut term = NodeSelectorTerm::default();
    for pick in picks {
        let binds = pick.device.spec.binds_to_node == Some(true);
        match pick.device.place() {
            (name, _) if name.is_some() || binds => {
                let name = NodeSelectorRequirement {
                    key: "metadata.name".to_owned(),
                    operator: "In".to_owned(),
                    values: Some(vec![node.to_owned()]),
                };
                return Some(NodeSelector {
                    node_selector_terms: vec![NodeSelectorTerm {
                        match_fields: Some(vec![name]),
                        match_expressions: None,
                    }],
                });
            }
            (_, Some(selector)) => {
                for own in &selector.node_selector_terms {
                    add(own.match_expressions.as_ref(), &mut term.match_expressions);
                    add(own.match_fields.as_ref(), &mut term.match_fields);
                }
            }
            _ => {}
        }
    }
    let any = term.match_expressions.is_some() || term.match_fields.is_some();
    any.then(|| NodeSelector {
        node_selector_terms: vec![term],
    })
}

fn add(from: Option<&Vec<NodeSelectorRequirement>>, to: &mut Option<Vec<NodeSelectorRequirement>>) {
    for requirement in from.into_iter().flatten() {
        let all = to.get_or_insert_default();
        if !all.contains(requirement) {
            all.push(requirement.clone());
        }
    }
}
