//! The law of random writers: what a client keeps from a list and the events after it is the present.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::world::{World, changes, delete, drain, listing, put};
use crate::*;

/// What a random writer does.
#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>),
    Delete(u8),
    Reopen,
    Pass(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => proptest::collection::vec(0..12_u8, 1..4).prop_map(Step::Put),
        3 => (0..12_u8).prop_map(Step::Delete),
        1 => Just(Step::Reopen),
        1 => (1..200_u8).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..60)
}

fn key_of(number: u8) -> String {
    format!("kind{}/a/{number}", number % 3)
}

fn step_change(store: &Store, step: &Step) -> Option<Transaction> {
    match step {
        Step::Put(numbers) => {
            let distinct: std::collections::BTreeSet<_> = numbers.iter().collect();
            let changes = distinct.into_iter().map(|number| put(&key_of(*number), "x")).collect();
            Some(Transaction {
                expect: Vec::new(),
                changes,
            })
        }
        Step::Delete(number) => {
            let key = key_of(*number);
            store.snapshot().get(&key).map(|_| changes([delete(&key, "gone")]))
        }
        Step::Reopen | Step::Pass(_) => None,
    }
}

/// Applies events to a list, as every client with a cache does.
fn replay(list: &mut BTreeMap<String, Record>, events: &[Arc<Event>]) {
    for event in events {
        let key = event.record.key.to_string();
        let known = match event.kind {
            EventKind::Put => list.insert(key, Record::clone(&event.record)),
            EventKind::Delete => list.remove(&key),
        };
        assert_eq!(
            known.as_ref(),
            event.previous.as_deref(),
            "an event knows what it replaced"
        );
    }
}

fn assert_ordered_and_unique(events: &[Arc<Event>]) {
    for pair in events.windows(2) {
        let [a, b] = pair else { unreachable!() };
        assert!(a.revision <= b.revision);
        assert!(a.revision < b.revision || a.record.key != b.record.key);
    }
}

/// Runs random steps. At each revision a list is kept; in the end every one of them that is
/// recent enough must be found by `snapshot_at`, and be the start of a watch that leads to the
/// present: ordered, unique, gapless, resumable, over restarts and expiry.
async fn follow(world: World, steps: Vec<Step>) {
    let mut store = world.open();
    let mut lists = BTreeMap::from([(0, BTreeMap::new())]);
    for step in &steps {
        match step_change(&store, step) {
            Some(transaction) => {
                let revision = store.commit(transaction).await.unwrap().revision;
                lists.insert(revision, listing(&store.snapshot()));
            }
            None if matches!(step, Step::Reopen) => store = world.reopen(store).await,
            None => {
                if let Step::Pass(seconds) = step {
                    world.pass_seconds(u64::from(*seconds));
                }
            }
        }
    }
    let now = listing(&store.snapshot());
    let oldest = store.compacted();
    for (revision, list) in lists {
        if revision < oldest {
            assert!(store.snapshot_at(revision).is_err() && store.watch("", revision).is_err());
            continue;
        }
        assert_eq!(listing(&store.snapshot_at(revision).unwrap()), list);
        let events = drain(&mut store.watch("", revision).unwrap());
        assert_ordered_and_unique(&events);
        assert!(events.iter().all(|event| event.revision > revision));
        let mut list = list;
        replay(&mut list, &events);
        assert_eq!(list, now);
    }
}

pub(super) fn events_replayed_on_a_list_give_the_present(world: fn() -> World, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let law = |steps| {
        runtime.block_on(follow(world(), steps));
        Ok(())
    };
    TestRunner::new(config).run(&steps(), law).unwrap();
}
