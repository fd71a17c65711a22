//! VolumeRestrictions: a claim for one pod only serves one pod, and a disk that takes one writer is on a node once.

use k8s_openapi::api::core::v1::Volume;

use super::{Asked, Plugin, Refusal, Round};
use crate::happening::{Happening, Happenings};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "VolumeRestrictions",
    attend: None,
    filter: Some(filter),
    score: None,
    helped_by: Happenings::of(&[Happening::NodeAdded, Happening::PodGone, Happening::Claim]),
};

const ONE_POD: &str = "ReadWriteOncePod";

fn filter(round: Round<'_>) -> Asked<'_> {
    let exclusive = round.pod.claims.iter().filter(|name| {
        let claim = round.cluster.volumes.claim(&name.key);
        let modes = claim.and_then(|claim| claim.spec.as_ref()?.access_modes.as_ref());
        modes.is_some_and(|modes| modes.iter().any(|mode| mode == ONE_POD))
    });
    let taken = exclusive.filter(|name| round.cluster.claimants(&name.key) > 0).count() > 0;
    let disks: Vec<Disk<'_>> = round.pod.spec().into_iter().flat_map(disks).collect();
    if !taken && disks.is_empty() {
        return Asked::Nothing;
    }
    Asked::Each(Box::new(move |view| {
        if taken {
            return Err(Refusal::for_room(
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
            ));
        }
        let mut here = round
            .cluster
            .on(view.index)
            .filter_map(|pod| pod.spec())
            .flat_map(self::disks);
        if here.any(|used| disks.iter().any(|wanted| wanted.clashes(&used))) {
            return Err(Refusal::for_room("node(s) had no available disk"));
        }
        Ok(())
    }))
}

/// A disk that a pod names itself, without a claim.
#[derive(PartialEq)]
struct Disk<'a> {
    kind: &'static str,
    name: Vec<&'a str>,
    /// Whether any number of pods may have it that only read; `None` if only one pod can have it.
    only_read: Option<bool>,
}

impl Disk<'_> {
    fn clashes(&self, other: &Self) -> bool {
        let both_read = self.only_read == Some(true) && other.only_read == Some(true);
        self.kind == other.kind && self.name == other.name && !both_read
    }
}

fn disks(spec: &k8s_openapi::api::core::v1::PodSpec) -> impl Iterator<Item = Disk<'_>> {
    spec.volumes.iter().flatten().filter_map(disk)
}

fn disk(volume: &Volume) -> Option<Disk<'_>> {
    let reads = |flag: Option<bool>| Some(flag == Some(true));
    let (kind, name, only_read) = if let Some(disk) = &volume.gce_persistent_disk {
        ("gce", vec![disk.pd_name.as_str()], reads(disk.read_only))
    } else if let Some(disk) = &volume.aws_elastic_block_store {
        ("aws", vec![disk.volume_id.as_str()], None)
    } else if let Some(disk) = &volume.iscsi {
        ("iscsi", vec![disk.iqn.as_str()], reads(disk.read_only))
    } else if let Some(disk) = &volume.rbd {
        let pool = disk.pool.as_deref().unwrap_or("rbd");
        ("rbd", vec![pool, disk.image.as_str()], reads(disk.read_only))
    } else {
        return None;
    };
    Some(Disk { kind, name, only_read })
}
