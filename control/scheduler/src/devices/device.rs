//! One device, with what selectors said of it.

use std::{collections::HashMap, fmt, sync::Arc};

use coracle_api::{
    policy::devices::{Attribute, Device as Seen},
    quantity::Quantity,
};
use coracle_controllers::placement;
use k8s_openapi::{
    api::{
        core::v1::{Node, NodeSelector},
        resource::v1::{Device as Spec, DeviceAttribute, DeviceTaint, DeviceToleration, ResourceSlice},
    },
    apimachinery::pkg::api::resource::Quantity as Amount,
};
use parking_lot::Mutex;

use super::selectors::Compiled;

/// A device remembers what so many selectors said of it: more than classes and requests usually have, and little enough
/// that ten thousand devices remember it in some megabytes.
const VERDICTS_LIMIT: usize = 64;

/// Which device.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    /// Whose.
    pub driver: Arc<str>,
    /// In which of the driver's pools.
    pub pool: Arc<str>,
    /// Its name there.
    pub device: Arc<str>,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.driver, self.pool, self.device)
    }
}

/// A device that a slice tells of. It never changes: another version of the slice has other devices.
#[derive(Debug)]
pub struct Device {
    /// Which.
    pub id: DeviceId,
    /// What is said of it.
    pub spec: Spec,
    /// The slice.
    pub slice: Arc<ResourceSlice>,
    seen: Seen,
    verdicts: Mutex<HashMap<u64, Result<bool, String>>>,
}

impl Device {
    /// The devices of a slice.
    #[must_use]
    pub fn all_of(slice: &Arc<ResourceSlice>) -> Vec<Arc<Self>> {
        let (driver, pool): (Arc<str>, Arc<str>) =
            (slice.spec.driver.as_str().into(), slice.spec.pool.name.as_str().into());
        let specs = slice.spec.devices.iter().flatten();
        specs
            .map(|spec| {
                Arc::new(Self {
                    id: DeviceId {
                        driver: driver.clone(),
                        pool: pool.clone(),
                        device: spec.name.as_str().into(),
                    },
                    seen: seen(&driver, spec),
                    spec: spec.clone(),
                    slice: slice.clone(),
                    verdicts: Mutex::default(),
                })
            })
            .collect()
    }

    /// Whether it can be had more than once.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.spec.allow_multiple_allocations == Some(true)
    }

    /// Whether binding waits for somebody to get it ready.
    #[must_use]
    pub fn is_prepared_by_others(&self) -> bool {
        self.spec.binding_conditions.as_ref().is_some_and(|all| !all.is_empty())
    }

    /// Where it is: the node's name, or a selector of nodes; neither if it is everywhere.
    #[must_use]
    pub fn place(&self) -> (Option<&str>, Option<&NodeSelector>) {
        let spec = &self.slice.spec;
        match spec.per_device_node_selection == Some(true) {
            true => (self.spec.node_name.as_deref(), self.spec.node_selector.as_ref()),
            false => (spec.node_name.as_deref(), spec.node_selector.as_ref()),
        }
    }

    /// Whether it can be reached from the node.
    #[must_use]
    pub fn reaches(&self, node: &Node) -> bool {
        let everywhere = match self.slice.spec.per_device_node_selection == Some(true) {
            true => self.spec.all_nodes,
            false => self.slice.spec.all_nodes,
        };
        match self.place() {
            (Some(name), _) => node.metadata.name.as_deref() == Some(name),
            (None, Some(selector)) => placement::selected(selector, node),
            (None, None) => everywhere == Some(true),
        }
    }

    /// Whether the selector selects it. It is asked once; what that costs is taken from `units`.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub fn is_selected(&self, selector: &Compiled, units: &mut u64) -> Result<bool, String> {
        if let Some(known) = self.verdicts.lock().get(&selector.id) {
            return known.clone();
        }
        let verdict = match &selector.program {
            Ok(program) => program.selects(&self.seen, units),
            Err(error) => Err(format!("CEL compile error: {error}")),
        };
        // What was cut short for want of time is not what the selector says.
        if *units > 0 {
            let mut verdicts = self.verdicts.lock();
            if verdicts.len() >= VERDICTS_LIMIT {
                verdicts.clear();
            }
            verdicts.insert(selector.id, verdict.clone());
        }
        verdict
    }

    /// Whether a taint keeps those away who tolerate no more than this.
    #[must_use]
    pub fn repels(&self, tolerations: &[DeviceToleration]) -> bool {
        let taints = self.spec.taints.iter().flatten();
        // Effects that are not known here keep nobody away.
        let mut hard = taints.filter(|taint| matches!(&*taint.effect, "NoSchedule" | "NoExecute"));
        hard.any(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
    }

    /// The attribute of that full name; one without a domain in the slice has the driver's.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&DeviceAttribute> {
        let all = self.spec.attributes.as_ref()?;
        all.get(name).or_else(|| {
            let (domain, short) = name.split_once('/')?;
            (*domain == *self.id.driver).then(|| all.get(short))?
        })
    }
}

fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let value = match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default(),
    };
    given(&toleration.effect).is_none_or(|effect| effect == taint.effect)
        && given(&toleration.key).is_none_or(|key| key == taint.key)
        && value
}

/// An amount as a number that can be compared; nothing that cannot be read is offered or asked for.
#[must_use]
pub fn amount(text: &Amount) -> Quantity {
    Quantity::parse(&text.0).unwrap_or(Quantity::ZERO)
}

fn seen(driver: &str, spec: &Spec) -> Seen {
    let attributes = spec.attributes.iter().flatten();
    let attributes = attributes.filter_map(|(name, value)| Some((name.as_str(), attribute(value)?)));
    let capacity = spec.capacity.iter().flatten();
    let capacity = capacity.map(|(name, value)| (name.as_str(), amount(&value.value)));
    Seen::new(
        driver,
        spec.allow_multiple_allocations == Some(true),
        attributes,
        capacity,
    )
}

fn attribute(value: &DeviceAttribute) -> Option<Attribute> {
    let truth = value.bool.map(Attribute::Bool);
    let number = || value.int.map(Attribute::Int);
    let text = || value.string.clone().map(Attribute::Text);
    let version = || value.version.clone().map(Attribute::Version);
    truth.or_else(number).or_else(text).or_else(version)
}
