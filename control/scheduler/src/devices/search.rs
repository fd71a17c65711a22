//! Finds devices for all claims of a pod on one node: request by request, device by device, and back where that leads
//! nowhere. The first way that serves all is taken, so that choices are tried in the order in which claims list them.
//!
//! What was chosen so far is a list; every rule looks at that list, and going back is taking its end away.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use coracle_api::{quantity::Quantity, validate::devices::RESULTS_LIMIT};
use k8s_openapi::api::{
    core::v1::Node,
    resource::v1::{DeviceAttribute, DeviceConstraint},
};

use super::{
    Devices, capacity,
    claim::{Choice, Claim, Count},
    device::{Device, amount},
    pools::{Condition, PoolId},
    selectors::Compiled,
};

/// One attempt to find a node looks at so many devices, over all nodes: a tenth of a second's work, in which others wait.
/// A node with a hundred devices and ten requests for any of them takes a thousand; what needs more than this has so many
/// ways to fail that it would need all of them.
pub const STEPS_LIMIT: u32 = 100_000;
/// What one attempt may spend on asking selectors, in units of which an evaluation may cost a million: what a policy may
/// spend on a write. Answers are kept, so an attempt that was cut short goes on from there the next time.
pub const SELECTORS_LIMIT_UNITS: u64 = 10_000_000;

/// What is said when an attempt came to one of these limits.
const TOO_MUCH: &str = "timed out trying to allocate devices";

/// What an attempt has left to spend.
#[derive(Debug)]
pub struct Effort {
    steps: Cell<u32>,
    units: Cell<u64>,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            steps: Cell::new(STEPS_LIMIT),
            units: Cell::new(SELECTORS_LIMIT_UNITS),
        }
    }
}

impl Effort {
    fn step(&self) -> Result<(), String> {
        let left = self.steps.get().checked_sub(1).ok_or(TOO_MUCH)?;
        self.steps.set(left);
        Ok(())
    }
}

/// A device that was chosen.
#[derive(Debug)]
pub struct Pick<'a> {
    /// For which claim, by its place.
    pub claim: usize,
    /// For which request, by its place.
    pub request: usize,
    /// In which of the ways to serve it.
    pub choice: &'a Choice,
    /// Which.
    pub device: &'a Arc<Device>,
    /// How much of it, where several share it.
    pub consumed: Option<BTreeMap<&'a str, Quantity>>,
}

/// The search on one node.
pub struct Search<'a> {
    devices: &'a Devices,
    claims: &'a [&'a Claim],
    /// What can be reached from the node, of pools that can be taken from.
    offered: Vec<&'a Arc<Device>>,
    /// A pool near the node that cannot be taken from.
    unready: Option<(&'a PoolId, Condition)>,
    effort: &'a Effort,
    chosen: Vec<Pick<'a>>,
    /// What counters of a pool are left by others.
    counters: RefCell<HashMap<PoolId, Counters<'a>>>,
}

/// Where the search is.
#[derive(Clone, Copy)]
struct At {
    claim: usize,
    request: usize,
}

type Found = Result<bool, String>;
/// What is left of counters, by set and name, in billionths.
type Counters<'a> = BTreeMap<(&'a str, &'a str), i128>;

impl<'a> Search<'a> {
    /// A search for these claims on that node.
    #[must_use]
    pub fn new(devices: &'a Devices, node: &Node, claims: &'a [&'a Claim], effort: &'a Effort) -> Self {
        let (mut offered, mut unready) = (Vec::new(), None);
        for (id, pool) in devices.pools.near(node) {
            let mut reached = pool.devices().filter(|device| device.reaches(node)).peekable();
            match pool.condition {
                Condition::Ready => offered.extend(reached),
                condition if reached.peek().is_some() => unready = unready.or(Some((id, condition))),
                _ => {}
            }
        }
        // Those that have to be got ready first are the last resort.
        offered.sort_by_key(|device| device.is_prepared_by_others());
        Self {
            devices,
            claims,
            offered,
            unready,
            effort,
            chosen: Vec::new(),
            counters: RefCell::default(),
        }
    }

    /// The devices that serve all claims; `None` if there are not enough.
    ///
    /// # Errors
    /// What is wrong with a claim, a class, or a pool, in the words of Kubernetes.
    pub fn run(mut self) -> Result<Option<Vec<Pick<'a>>>, String> {
        if self.request(At { claim: 0, request: 0 })? {
            return Ok(Some(self.chosen));
        }
        match self.unready {
            Some((_, Condition::Invalid)) => Err("invalid resource pools were encountered".to_owned()),
            _ => Ok(None),
        }
    }

    fn request(&mut self, at: At) -> Found {
        let Some(claim) = self.claims.get(at.claim) else {
            return Ok(true);
        };
        let Some(request) = claim.requests.get(at.request) else {
            return self.request(At {
                claim: at.claim + 1,
                request: 0,
            });
        };
        for choice in &request.choices {
            let found = match choice.count {
                Count::Exactly(count) => self.some(at, choice, count, 0)?,
                Count::All => self.all(at, choice)?,
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn next(&mut self, at: At) -> Found {
        self.request(At {
            request: at.request + 1,
            ..at
        })
    }

    /// Chooses so many more devices, from the one at `from`: those of one request are alike, so their order is none.
    fn some(&mut self, at: At, choice: &'a Choice, count: usize, from: usize) -> Found {
        if count == 0 {
            return self.next(at);
        }
        if self.results(at.claim) + count > RESULTS_LIMIT {
            return Ok(false);
        }
        for index in from..self.offered.len() {
            self.effort.step()?;
            let Some(device) = self.offered.get(index).copied() else {
                break;
            };
            if let Some(pick) = self.pick(at, choice, device)? {
                self.chosen.push(pick);
                if self.some(at, choice, count - 1, index + 1)? {
                    return Ok(true);
                }
                self.chosen.pop();
            }
        }
        Ok(false)
    }

    /// Chooses all devices that are meant, in whatever use they are.
    fn all(&mut self, at: At, choice: &'a Choice) -> Found {
        if let Some((pool, condition)) = self.unready {
            let state = match condition {
                Condition::Invalid => "is currently invalid",
                _ => "is currently being updated",
            };
            return Err(format!(
                "claim {}, request {}: asks for all devices, but resource pool {pool} {state}",
                self.key(at),
                choice.name
            ));
        }
        let start = self.chosen.len();
        for index in 0..self.offered.len() {
            self.effort.step()?;
            let Some(device) = self.offered.get(index).copied() else {
                break;
            };
            if !self.is_meant(at, choice, device)? || self.share(choice, device).is_none() {
                continue;
            }
            match self.pick(at, choice, device)? {
                Some(pick) if self.results(at.claim) < RESULTS_LIMIT => self.chosen.push(pick),
                _ => {
                    self.chosen.truncate(start);
                    return Ok(false);
                }
            }
        }
        // All of none is not what was meant.
        if self.chosen.len() > start && self.next(at)? {
            return Ok(true);
        }
        self.chosen.truncate(start);
        Ok(false)
    }

    fn key(&self, at: At) -> String {
        self.claims
            .get(at.claim)
            .map(|claim| claim.key.to_string())
            .unwrap_or_default()
    }

    fn results(&self, claim: usize) -> usize {
        self.chosen.iter().filter(|pick| pick.claim == claim).count()
    }

    /// The device, if it can be chosen now.
    fn pick(&self, at: At, choice: &'a Choice, device: &'a Arc<Device>) -> Result<Option<Pick<'a>>, String> {
        if self.is_busy(at, choice, device) || !self.is_meant(at, choice, device)? {
            return Ok(None);
        }
        let Some(consumed) = self.share(choice, device) else {
            return Ok(None);
        };
        let free = !device.repels(&choice.tolerations)
            && self.has_counters(device)
            && self.meets_constraints(at, choice, device);
        Ok(free.then(|| Pick {
            claim: at.claim,
            request: at.request,
            choice,
            device,
            consumed: device.is_shared().then_some(consumed),
        }))
    }

    /// Whether somebody has the device. For administration that does not matter, but nobody gets it twice.
    fn is_busy(&self, at: At, choice: &Choice, device: &Arc<Device>) -> bool {
        if device.is_shared() {
            return false;
        }
        let mut others = self.chosen.iter().filter(|pick| Arc::ptr_eq(pick.device, device));
        match choice.admin {
            true => others.any(|pick| pick.claim == at.claim),
            false => others.any(|pick| !pick.choice.admin) || self.devices.usage.is_taken(device),
        }
    }

    /// Whether the class and the request select the device.
    fn is_meant(&self, at: At, choice: &Choice, device: &Device) -> Found {
        let Some(class) = self.devices.classes.get(choice.class.as_str()) else {
            return Err(format!(
                "claim {}, request {}: could not retrieve device class {}",
                self.key(at),
                choice.name,
                choice.class
            ));
        };
        let ask = |selectors: &[Arc<Compiled>], whose: &dyn Fn() -> String| {
            for (index, selector) in selectors.iter().enumerate() {
                let mut units = self.effort.units.get();
                if units == 0 {
                    return Err(TOO_MUCH.to_owned());
                }
                let verdict = device.is_selected(selector, &mut units);
                self.effort.units.set(units);
                match verdict {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    Err(error) => {
                        return Err(format!(
                            "{}: selector #{index} on device {}: {error}",
                            whose(),
                            device.id
                        ));
                    }
                }
            }
            Ok(true)
        };
        Ok(ask(&class.selectors, &|| format!("class {}", choice.class))?
            && ask(&choice.selectors, &|| format!("claim {}", self.key(at)))?)
    }

    /// How much of the device the request takes; `None` if the device does not have as much, or has given it away.
    fn share(&self, choice: &Choice, device: &'a Arc<Device>) -> Option<BTreeMap<&'a str, Quantity>> {
        let consumed = capacity::consumed(device, &choice.capacity)?;
        let left = |name: &str| {
            let whole = device.spec.capacity.as_ref()?.get(name)?;
            let same = self.chosen.iter().filter(|pick| Arc::ptr_eq(pick.device, device));
            let mine = same.filter_map(|pick| Some(pick.consumed.as_ref()?.get(name)?.nanos()));
            Some(amount(&whole.value).nanos() - self.devices.usage.given(device, name) - mine.sum::<i128>())
        };
        let fits = consumed
            .iter()
            .all(|(name, wanted)| left(name).is_some_and(|left| wanted.nanos() <= left));
        fits.then_some(consumed)
    }

    /// Whether so much is left of what the devices of the pool share.
    fn has_counters(&self, device: &'a Arc<Device>) -> bool {
        let wanted = taken(device);
        if wanted.is_empty() {
            return true;
        }
        // Who has a share of it already has taken them.
        let chosen = || self.chosen.iter().map(|pick| pick.device);
        if device.is_shared()
            && (self.devices.usage.is_used(device) || chosen().any(|other| Arc::ptr_eq(other, device)))
        {
            return true;
        }
        let id = PoolId {
            driver: device.id.driver.clone(),
            pool: device.id.pool.clone(),
        };
        let mut pools = self.counters.borrow_mut();
        let left = pools.entry(id).or_insert_with(|| self.left(device));
        let mut mine: Vec<&Arc<Device>> = Vec::new();
        for other in chosen().filter(|other| other.id.pool == device.id.pool && other.id.driver == device.id.driver) {
            if !mine.iter().any(|known| Arc::ptr_eq(known, other)) {
                mine.push(other);
            }
        }
        wanted.iter().all(|(counter, wanted)| {
            let also = mine.iter().flat_map(|other| taken(other));
            let also: i128 = also.filter(|(other, _)| other == counter).map(|(_, nanos)| nanos).sum();
            left.get(counter).is_some_and(|left| also + wanted <= *left)
        })
    }

    /// What allocated devices leave of the counters of the device's pool.
    fn left(&self, device: &Device) -> Counters<'a> {
        let Some(pool) = self.devices.pools.of(device) else {
            return BTreeMap::new();
        };
        let mut left = pool.counters();
        for other in pool.devices().filter(|other| self.devices.usage.is_used(other)) {
            for (counter, nanos) in taken(other) {
                if let Some(left) = left.get_mut(&counter) {
                    *left -= nanos;
                }
            }
        }
        left
    }

    fn meets_constraints(&self, at: At, choice: &Choice, device: &Arc<Device>) -> bool {
        let claim = self.claims.get(at.claim);
        let devices = claim.and_then(|claim| claim.object.spec.devices.as_ref());
        let mut constraints = devices
            .into_iter()
            .flat_map(|devices| devices.constraints.iter().flatten());
        constraints.all(|constraint| !concerns(constraint, choice) || self.meets(constraint, at.claim, device))
    }

    fn meets(&self, constraint: &DeviceConstraint, claim: usize, device: &Arc<Device>) -> bool {
        let own = self.chosen.iter().filter(|pick| pick.claim == claim);
        let mut others = own
            .filter(|pick| concerns(constraint, pick.choice))
            .map(|pick| pick.device);
        match (&constraint.match_attribute, &constraint.distinct_attribute) {
            (Some(name), _) => device.attribute(name).is_some_and(|value| {
                let first = others.next();
                first.is_none_or(|other| other.attribute(name).is_some_and(|other| same(value, other)))
            }),
            (None, Some(name)) => device.attribute(name).is_some_and(|value| {
                others.all(|other| other.attribute(name).is_some_and(|other| !same(value, other)))
            }),
            (None, None) => false,
        }
    }
}

/// Whether the constraint is about devices that are chosen in this way.
fn concerns(constraint: &DeviceConstraint, choice: &Choice) -> bool {
    let named = constraint.requests.as_deref().unwrap_or_default();
    let request = choice.name.split('/').next().unwrap_or_default();
    named.is_empty() || named.iter().any(|name| *name == choice.name || name == request)
}

/// Whether two attributes have one value of one type.
fn same(one: &DeviceAttribute, other: &DeviceAttribute) -> bool {
    let set = one.bool.is_some() || one.int.is_some() || one.string.is_some() || one.version.is_some();
    set && one.bool == other.bool && one.int == other.int && one.string == other.string && one.version == other.version
}

/// What the device takes of the counters of its pool, in billionths.
fn taken(device: &Device) -> Vec<((&str, &str), i128)> {
    let sets = device.spec.consumes_counters.iter().flatten();
    sets.flat_map(|set| {
        let counters = set.counters.iter();
        counters.map(|(name, counter)| {
            (
                (set.counter_set.as_str(), name.as_str()),
                amount(&counter.value).nanos(),
            )
        })
    })
    .collect()
}
