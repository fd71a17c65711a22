//! Follows what is compiled from stored objects: whatever is written, by this server or another over the same store, is
//! compiled in.

use std::sync::Weak;

use coracle_store::{Snapshot, Store, Watch};
use futures::StreamExt;
use futures::stream::select_all;
use tokio_util::sync::CancellationToken;

use crate::core::Core;

/// The state of the moment, and watches that tell of every change below the prefixes from then on.
pub(crate) fn watched(store: &Store, prefixes: &[&str]) -> (Snapshot, Vec<Watch>) {
    loop {
        let snapshot = store.snapshot();
        let watches = prefixes.iter().map(|prefix| store.watch(prefix, snapshot.revision()));
        // The history may have gone on past this state meanwhile; then the next one will do.
        if let Ok(watches) = watches.collect() {
            return (snapshot, watches);
        }
    }
}

/// Waits until something changes, for those who then look at everything again. False when the server ends instead.
pub(crate) async fn changed(core: &Weak<Core>, watches: impl IntoIterator<Item = Watch>) -> bool {
    let Some(closing) = core.upgrade().map(|core| core.closing.clone()) else {
        return false;
    };
    let mut events = select_all(watches);
    tokio::select! {
        () = closing.cancelled() => false,
        event = events.next() => event.is_some(),
    }
}

/// Tells `changed` the revision of every change below one of the prefixes, until `stop`. A watch that fell behind is begun
/// anew with the revision of the moment; what is compiled is compiled from snapshots, so nothing is missed.
pub(crate) async fn follow(store: &Store, prefixes: &[&str], stop: &CancellationToken, changed: impl Fn(u64)) {
    while !stop.is_cancelled() {
        let (snapshot, watches) = watched(store, prefixes);
        changed(snapshot.revision());
        let mut events = select_all(watches);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => match event {
                    Some(Ok(event)) => changed(event.revision),
                    Some(Err(_)) => break,
                    None => return,
                },
            }
        }
    }
}
