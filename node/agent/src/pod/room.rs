//! Says when a volume of the pod had no room for what a container wrote.

use super::PodTask;
use crate::volume::accounts::{Full, PodAccounts};
use std::sync::Arc;

impl PodTask {
    /// Takes over the accounts of the volumes that were made.
    pub(super) fn accounts_opened(&mut self, accounts: PodAccounts) {
        self.tell_full();
        accounts.listen(&self.cell.changed);
        // What was refused to others before is not news here.
        self.told_full = accounts.full();
        self.accounts = Arc::new(accounts);
    }

    /// Tells what was refused since the last look.
    pub(super) fn tell_full(&mut self) {
        let full = self.accounts.full();
        if full == self.told_full {
            return;
        }
        for one in full.iter().filter(|one| !self.told_full.contains(one)) {
            self.event(None, true, "VolumeFull", words(one));
        }
        self.told_full = full;
    }
}

fn words(full: &Full) -> String {
    let limit = crate::quantity::binary(full.limit_bytes);
    match &full.volume {
        Some(volume) => format!(
            "Volume {volume:?} is full: it may hold {limit}. Writes to it fail with \"no space left\"; delete files, or give the volume more (sizeLimit of the emptyDir, storage of the claim)"
        ),
        None => format!(
            "The pod's files on the node are at their limit of {limit}. Writes fail with \"no space left\"; delete files, or raise limits.ephemeral-storage of its containers"
        ),
    }
}
