//! The pools of devices, and which of them a node can reach.
//!
//! A driver that changes a pool gives its slices a new generation, one after the other. Only the newest one counts, and
//! only when all its slices are there: half a pool would tell half of what is taken.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use k8s_openapi::api::{core::v1::Node, resource::v1::ResourceSlice};

use super::device::Device;

/// Which pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId {
    /// Whose.
    pub driver: Arc<str>,
    /// Its name.
    pub pool: Arc<str>,
}

impl PoolId {
    fn of(slice: &ResourceSlice) -> Self {
        Self {
            driver: slice.spec.driver.as_str().into(),
            pool: slice.spec.pool.name.as_str().into(),
        }
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.driver, self.pool)
    }
}

/// Whether a pool can be taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It can.
    Ready,
    /// Slices are missing: the driver is at it.
    #[default]
    Incomplete,
    /// Two devices have one name.
    Invalid,
}

#[derive(Clone, Debug)]
struct Slice {
    object: Arc<ResourceSlice>,
    devices: Vec<Arc<Device>>,
}

/// A pool.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    slices: BTreeMap<Arc<str>, Slice>,
    newest: i64,
    /// Whether it can be taken from.
    pub condition: Condition,
}

impl Pool {
    fn current(&self) -> impl Iterator<Item = &Slice> {
        let slices = self.slices.values();
        slices.filter(|slice| slice.object.spec.pool.generation == self.newest)
    }

    /// Its devices, in an order that stays.
    pub fn devices(&self) -> impl Iterator<Item = &Arc<Device>> {
        self.current().flat_map(|slice| &slice.devices)
    }

    /// How much there is of what its devices share, by set and then by name, in billionths.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<(&str, &str), i128> {
        let sets = self
            .current()
            .flat_map(|slice| slice.object.spec.shared_counters.iter().flatten());
        let counters = sets.flat_map(|set| {
            let counters = set.counters.iter();
            counters.map(|(name, counter)| {
                let value = super::device::amount(&counter.value);
                ((set.name.as_str(), name.as_str()), value.nanos())
            })
        });
        counters.collect()
    }

    fn judge(&mut self) {
        let generations = self.slices.values().map(|slice| slice.object.spec.pool.generation);
        self.newest = generations.max().unwrap_or_default();
        let wanted = self
            .current()
            .next()
            .map(|slice| slice.object.spec.pool.resource_slice_count);
        let found = i64::try_from(self.current().count()).ok();
        let mut names = HashSet::new();
        self.condition = if wanted != found {
            Condition::Incomplete
        } else if self.devices().all(|device| names.insert(device.id.device.clone())) {
            Condition::Ready
        } else {
            Condition::Invalid
        };
    }

    /// The nodes that its slices name, and whether some name none.
    fn places(&self) -> (BTreeSet<&str>, bool) {
        let names = || self.slices.values().map(|slice| slice.object.spec.node_name.as_deref());
        (names().flatten().collect(), names().any(|name| name.is_none()))
    }
}

/// All pools.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    pools: BTreeMap<PoolId, Pool>,
    /// The pools with slices of one node, by its name.
    by_node: HashMap<String, BTreeSet<PoolId>>,
    /// The pools with slices that are not of one node.
    elsewhere: BTreeSet<PoolId>,
}

impl Pools {
    /// Takes in a slice before and after.
    pub fn put(&mut self, old: Option<&ResourceSlice>, new: Option<&Arc<ResourceSlice>>) {
        let name = |slice: &ResourceSlice| -> Arc<str> { slice.metadata.name.as_deref().unwrap_or_default().into() };
        if let Some(old) = old {
            self.change(PoolId::of(old), |pool| drop(pool.slices.remove(&name(old))));
        }
        if let Some(new) = new {
            let slice = Slice {
                object: new.clone(),
                devices: Device::all_of(new),
            };
            self.change(PoolId::of(new), |pool| drop(pool.slices.insert(name(new), slice)));
        }
    }

    fn change(&mut self, id: PoolId, change: impl FnOnce(&mut Pool)) {
        let pool = self.pools.entry(id.clone()).or_default();
        let (nodes, _) = pool.places();
        for node in nodes {
            if let Some(pools) = self.by_node.get_mut(node) {
                pools.remove(&id);
                if pools.is_empty() {
                    self.by_node.remove(node);
                }
            }
        }
        self.elsewhere.remove(&id);
        change(pool);
        if pool.slices.is_empty() {
            self.pools.remove(&id);
            return;
        }
        pool.judge();
        let (nodes, elsewhere) = pool.places();
        for node in nodes {
            self.by_node.entry(node.to_owned()).or_default().insert(id.clone());
        }
        if elsewhere {
            self.elsewhere.insert(id);
        }
    }

    /// The pools that may have devices for the node.
    pub fn near(&self, node: &Node) -> impl Iterator<Item = (&PoolId, &Pool)> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let own = self.by_node.get(name).into_iter().flatten();
        let others = self.elsewhere.iter();
        let ids: BTreeSet<&PoolId> = own.chain(others).collect();
        ids.into_iter().filter_map(|id| self.pools.get_key_value(id))
    }

    /// The pool of a device.
    #[must_use]
    pub fn of(&self, device: &Device) -> Option<&Pool> {
        self.pools.get(&PoolId {
            driver: device.id.driver.clone(),
            pool: device.id.pool.clone(),
        })
    }
}
