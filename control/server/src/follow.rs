//! Follows what is compiled from stored objects: whatever is written, by this server or another over the same store, is
//! compiled in.

use coracle_store::Store;
use futures::StreamExt;
use futures::stream::select_all;
use tokio_util::sync::CancellationToken;

/// Tells `changed` the revision of every change below one of the prefixes, until `stop`. A watch that fell behind is begun
/// anew with the revision of the moment; what is compiled is compiled from snapshots, so nothing is missed.
pub(crate) async fn follow(store: &Store, prefixes: &[&str], stop: &CancellationToken, changed: impl Fn(u64)) {
    while !stop.is_cancelled() {
        let snapshot = store.snapshot();
        changed(snapshot.revision());
        let watches: Result<Vec<_>, _> = prefixes
            .iter()
            .map(|prefix| store.watch(prefix, snapshot.revision()))
            .collect();
        let Ok(watches) = watches else { continue };
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
