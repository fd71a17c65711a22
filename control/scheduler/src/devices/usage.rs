//! Which devices are taken, and how much of those that several share.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::resource::v1::{AllocationResult, DeviceRequestAllocationResult};

use super::device::{Device, DeviceId, amount};

/// What claims have been given.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// How many claims have the device to themselves; more than one only if somebody else allocates too.
    taken: HashMap<DeviceId, u32>,
    /// How many have a share of the device, and how much of what, by name and in billionths.
    shares: HashMap<DeviceId, (u32, BTreeMap<String, i128>)>,
}

impl Usage {
    /// An allocation was made.
    pub fn add(&mut self, allocation: &AllocationResult) {
        self.count(allocation, true);
    }

    /// An allocation was taken back.
    pub fn remove(&mut self, allocation: &AllocationResult) {
        self.count(allocation, false);
    }

    fn count(&mut self, allocation: &AllocationResult, more: bool) {
        let results = allocation
            .devices
            .iter()
            .flat_map(|devices| devices.results.iter().flatten());
        for result in results.filter(|result| result.admin_access != Some(true)) {
            let id = DeviceId {
                driver: result.driver.as_str().into(),
                pool: result.pool.as_str().into(),
                device: result.device.as_str().into(),
            };
            if result.share_id.is_some() {
                self.share(id, result, more);
                continue;
            }
            let claims = self.taken.entry(id.clone()).or_default();
            *claims = if more { *claims + 1 } else { claims.saturating_sub(1) };
            if *claims == 0 {
                self.taken.remove(&id);
            }
        }
    }

    fn share(&mut self, id: DeviceId, result: &DeviceRequestAllocationResult, more: bool) {
        let (claims, amounts) = self.shares.entry(id.clone()).or_default();
        *claims = if more { *claims + 1 } else { claims.saturating_sub(1) };
        for (name, value) in result.consumed_capacity.iter().flatten() {
            let nanos = amount(value).nanos();
            *amounts.entry(name.clone()).or_default() += if more { nanos } else { -nanos };
        }
        if *claims == 0 {
            self.shares.remove(&id);
        }
    }

    /// Whether a claim has the device to itself.
    #[must_use]
    pub fn is_taken(&self, device: &Device) -> bool {
        self.taken.contains_key(&device.id)
    }

    /// Whether claims have it or shares of it.
    #[must_use]
    pub fn is_used(&self, device: &Device) -> bool {
        self.is_taken(device) || self.shares.contains_key(&device.id)
    }

    /// How much of a capacity of the device is given away, in billionths.
    #[must_use]
    pub fn given(&self, device: &Device, capacity: &str) -> i128 {
        let shares = self.shares.get(&device.id);
        shares
            .and_then(|(_, amounts)| amounts.get(capacity))
            .copied()
            .unwrap_or_default()
    }
}
