//! The laws that a store keeps over every engine. A new engine adds one line at the end.
//!
//! Each law is a function of a [`World`], which can open the same store again and again, with a
//! clock that stands still until it is moved.

mod random;
mod world;

use std::time::Duration;

use random::events_replayed_on_a_list_give_the_present;
use world::*;

use crate::*;

async fn a_put_is_visible_durable_and_carries_its_revision(world: World) {
    let store = world.open();
    assert_eq!(store.snapshot().revision(), 0);
    let committed = store.commit(changes([put("pods/a/x", "one")])).await.unwrap();
    assert_eq!(committed.revision, 1);
    let record = store.snapshot().get("pods/a/x").unwrap().clone();
    assert_eq!(record.json, json(1, "one"));
    assert_eq!((record.revision, &committed.records), (1, &vec![record.clone()]));
    let store = world.reopen(store).await;
    assert_eq!(store.snapshot().get("pods/a/x"), Some(&record));
    assert_eq!(
        write(&store, "pods/a/y", "two").await,
        2,
        "revisions go on after a restart"
    );
}

async fn preconditions_are_checked(world: World) {
    let store = world.open();
    let first = write(&store, "k/a/x", "one").await;
    let cases = [
        (Expect::Any, true),
        (Expect::Absent, false),
        (Expect::Exists, true),
        (Expect::Revision(first), true),
        (Expect::Revision(first + 1), false),
        (Expect::Uid("one".into()), true),
        (Expect::Uid("two".into()), false),
    ];
    for (expect, met) in cases {
        let result = store
            .commit(expecting("k/a/x", expect.clone(), put("k/a/y", "one")))
            .await;
        match result {
            Ok(_) => assert!(met, "{expect:?}"),
            Err(CommitError::Precondition { key, found }) => {
                assert!(!met, "{expect:?}");
                assert_eq!((key.as_str(), found.unwrap().revision), ("k/a/x", first));
            }
            Err(other) => panic!("{other}"),
        }
    }
    for (expect, met) in [
        (Expect::Absent, true),
        (Expect::Exists, false),
        (Expect::Revision(0), false),
    ] {
        let result = store.commit(expecting("k/a/none", expect, put("k/a/z", "one"))).await;
        assert_eq!(result.is_ok(), met);
    }
}

async fn a_refused_transaction_changes_nothing_and_takes_no_revision(world: World) {
    let store = world.open();
    write(&store, "k/a/x", "one").await;
    let before = listing(&store.snapshot());
    let twice = changes([put("k/a/y", "1"), put("k/a/y", "2")]);
    let absent = changes([put("k/a/y", "1"), delete("k/a/none", "2")]);
    let mut outside = changes([put("k/a/y", "1"), put("k/a/z", "2")]);
    let Change::Put { body, .. } = &mut outside.changes[1] else {
        unreachable!()
    };
    body.revision_at = 1_000;
    for refused in [twice, absent, outside] {
        store.commit(refused).await.unwrap_err();
    }
    assert_eq!(listing(&store.snapshot()), before);
    let checked = Transaction {
        expect: vec![("k/a/x".into(), Expect::Exists)],
        changes: Vec::new(),
    };
    assert_eq!(store.commit(checked).await.unwrap().revision, 1);
    assert_eq!(write(&store, "k/a/x", "two").await, 2);
}

async fn of_many_who_expect_the_same_one_wins(world: World) {
    let store = world.open();
    let create = |writer: usize| {
        let store = store.clone();
        let text = writer.to_string();
        async move {
            store
                .commit(expecting("k/a/x", Expect::Absent, put("k/a/x", &text)))
                .await
                .is_ok()
        }
    };
    let won = futures::future::join_all((0..64).map(create)).await;
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
    assert_eq!(store.snapshot().revision(), 1);
}

async fn revisions_are_dense_under_concurrent_writers(world: World) {
    let store = world.open();
    let writes = (0..300).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { write(&store, &format!("k/a/{n:03}"), "x").await })
    });
    let mut revisions = Vec::new();
    for write in writes.collect::<Vec<_>>() {
        revisions.push(write.await.unwrap());
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=300).collect::<Vec<_>>());
    let before = listing(&store.snapshot());
    let store = world.reopen(store).await;
    assert_eq!(listing(&store.snapshot()), before);
}

async fn a_deletion_has_its_own_revision_and_the_last_header(world: World) {
    let store = world.open();
    write(&store, "k/a/x", "one").await;
    let mut watch = store.watch("k/", 1).unwrap();
    let committed = store.commit(changes([delete("k/a/x", "last")])).await.unwrap();
    let check = |event: &Event| {
        assert_eq!(
            (event.kind, event.revision, event.record.revision),
            (EventKind::Delete, 2, 2)
        );
        assert_eq!(event.record.json, json(2, "last"));
        assert_eq!(event.record.header.uid, "one");
        assert_eq!(event.previous.as_ref().unwrap().revision, 1);
    };
    let event = watch.next().await.unwrap().unwrap();
    check(&event);
    assert_eq!(committed.records, std::slice::from_ref(&event.record));
    assert!(store.snapshot().get("k/a/x").is_none());
    let store = world.reopen(store).await;
    assert!(store.snapshot().get("k/a/x").is_none());
    check(&store.watch("k/", 1).unwrap().next().await.unwrap().unwrap());
}

async fn ranges_are_ordered_bounded_and_resumable(world: World) {
    let store = world.open();
    for key in [
        "pods/b/2",
        "pods/a/9",
        "pods/a-b/1",
        "podsets/a/1",
        "nodes//n",
        "pods/a/1",
    ] {
        write(&store, key, "x").await;
    }
    let snapshot = store.snapshot();
    assert_eq!(
        keys(snapshot.range("pods/", None)),
        ["pods/a-b/1", "pods/a/1", "pods/a/9", "pods/b/2"]
    );
    assert_eq!(keys(snapshot.range("pods/a/", None)), ["pods/a/1", "pods/a/9"]);
    assert_eq!(
        keys(snapshot.range("pods/", Some("pods/a/1"))),
        ["pods/a/9", "pods/b/2"]
    );
    assert_eq!(
        keys(snapshot.range("pods/", Some("pods/a/5"))),
        ["pods/a/9", "pods/b/2"]
    );
    assert_eq!(
        keys(snapshot.range("pods/", Some("a"))),
        keys(snapshot.range("pods/", None))
    );
    assert_eq!(keys(snapshot.range("pods/", Some("q"))), Vec::<&str>::new());
    assert_eq!(
        (snapshot.count("pods/"), snapshot.count("x"), snapshot.count("")),
        (4, 0, 6)
    );
}

async fn pages_of_one_revision_stay_consistent_also_over_a_restart(world: World) {
    let store = world.open();
    for n in 0..10 {
        write(&store, &format!("k/a/{n}"), "old").await;
    }
    let first = store.snapshot();
    let expected = listing(&first);
    write(&store, "k/a/3", "new").await;
    store
        .commit(changes([delete("k/a/7", "gone"), put("k/a/99", "new")]))
        .await
        .unwrap();
    let again = |store: &Store| listing(&store.snapshot_at(10).unwrap());
    assert_eq!(listing(&first), expected, "a snapshot never changes");
    assert_eq!(again(&store), expected);
    assert_eq!(listing(&store.snapshot_at(11).unwrap())["k/a/7"].json, json(8, "old"));
    let store = world.reopen(store).await;
    assert_eq!(again(&store), expected);
    assert_eq!(store.snapshot_at(0).unwrap().count(""), 0);
    assert_eq!(store.snapshot_at(13).unwrap_err().requested, 13, "no such revision yet");
}

async fn the_past_expires_with_time(world: World) {
    let store = world.open();
    write(&store, "k/a/x", "one").await;
    world.pass_seconds(100);
    write(&store, "k/a/x", "two").await;
    world.pass_seconds(250);
    let expired = Expired {
        requested: 0,
        oldest: 1,
    };
    assert_eq!(store.snapshot_at(0).unwrap_err(), expired);
    assert_eq!(store.watch("k/", 0).unwrap_err(), expired);
    assert_eq!((store.compacted(), store.snapshot_at(1).unwrap().count("")), (1, 1));
    world.pass_seconds(1_000);
    assert_eq!(store.compacted(), 2);
    assert_eq!(store.snapshot_at(2).unwrap().get("k/a/x").unwrap().json, json(2, "two"));
    let store = world.reopen(store).await;
    assert_eq!(
        store.watch("k/", 1).unwrap_err(),
        Expired {
            requested: 1,
            oldest: 2
        }
    );
    assert_eq!(write(&store, "k/a/y", "three").await, 3);
}

async fn the_past_is_bounded_and_folding_it_loses_nothing(mut world: World) {
    world.config.history_events = 50;
    let store = world.open();
    for n in 0..700 {
        let key = format!("k/a/{}", n % 60);
        let exists = store.snapshot().get(&key).is_some();
        let change = if exists && n % 7 == 0 {
            delete(&key, "gone")
        } else {
            put(&key, &n.to_string())
        };
        store.commit(changes([change])).await.unwrap();
    }
    let before = listing(&store.snapshot());
    assert_eq!(store.compacted(), 650);
    assert!(store.watch("", 650).is_ok() && store.watch("", 649).is_err());
    let store = world.reopen(store).await;
    assert_eq!(listing(&store.snapshot()), before);
    assert_eq!(store.compacted(), 650);
    let store = world.reopen(store).await;
    assert_eq!(write(&store, "k/a/x", "more").await, 701);
}

async fn a_watch_delivers_what_matches_from_its_revision_on(world: World) {
    let store = world.open();
    write(&store, "pods/a/1", "x").await;
    write(&store, "pods/b/1", "x").await;
    let mut all = store.watch("", 0).unwrap();
    let mut pods = store.watch("pods/", 1).unwrap();
    let mut namespace = store.watch("pods/a/", 0).unwrap();
    let mut future = store.watch("pods/", 4).unwrap();
    write(&store, "nodes//n", "x").await;
    store
        .commit(changes([
            put("pods/a/2", "x"),
            put("pods/b/2", "x"),
            put("secrets/a/2", "x"),
        ]))
        .await
        .unwrap();
    write(&store, "pods/a/1", "y").await;
    let seen = |watch: &mut Watch| {
        let events = drain(watch);
        events
            .iter()
            .map(|event| format!("{} {}", event.revision, event.record.key))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        seen(&mut pods),
        ["2 pods/b/1", "4 pods/a/2", "4 pods/b/2", "5 pods/a/1"]
    );
    assert_eq!(seen(&mut namespace), ["1 pods/a/1", "4 pods/a/2", "5 pods/a/1"]);
    assert_eq!(seen(&mut future), ["5 pods/a/1"]);
    assert_eq!(seen(&mut all).len(), 7);
}

async fn a_watch_wakes_for_its_events_only_and_its_revision_moves_on(world: World) {
    let store = world.open();
    let mut watch = store.watch("pods/", 0).unwrap();
    let mut next = by_hand(watch.next());
    assert!(next.poll().is_pending());
    write(&store, "nodes//n", "x").await;
    assert_eq!(next.wakes(), 0);
    write(&store, "pods/a/1", "x").await;
    write(&store, "pods/a/2", "x").await;
    // Writers are answered before watchers are woken.
    while next.wakes() == 0 {
        tokio::task::yield_now().await;
    }
    write(&store, "pods/a/3", "x").await;
    assert_eq!(next.wakes(), 1, "woken once, however many events follow");
    assert!(next.poll().is_ready());
    drop(next);
    assert_eq!(watch.revision(), 2);
    assert_eq!(watch.next().await.unwrap().unwrap().revision, 3);
    assert_eq!(watch.next().await.unwrap().unwrap().revision, 4);
    write(&store, "nodes//n", "y").await;
    assert_eq!(watch.revision(), 5, "nothing is missing up to here");
}

async fn a_slow_watcher_is_told_and_harms_nobody(mut world: World) {
    world.config.history_events = 100;
    let store = world.open();
    let mut slow = store.watch("pods/", 0).unwrap();
    let mut quiet = store.watch("nodes/", 0).unwrap();
    let mut quick = store.watch("pods/", 0).unwrap();
    let mut seen = 0;
    for n in 0..300 {
        write(&store, "pods/a/1", &n.to_string()).await;
        seen += drain(&mut quick).len();
    }
    assert_eq!(seen, 300);
    assert_eq!(slow.next().await, Some(Err(Lagged { oldest: 200 })));
    assert_eq!(slow.next().await, None);
    assert_eq!(quiet.try_next(), None, "who had nothing to read is not behind");
    write(&store, "nodes//n", "x").await;
    assert_eq!(quiet.next().await.unwrap().unwrap().revision, 301);
}

async fn close_finishes_what_waits_and_ends_watches(world: World) {
    let store = world.open();
    let mut watch = store.watch("k/", 0).unwrap();
    let writes = (0..20).map(|n| {
        let store = store.clone();
        async move { write(&store, &format!("k/a/{n}"), "x").await }
    });
    let other = store.clone();
    let (done, ()) = futures::join!(futures::future::join_all(writes), store.clone().close());
    assert_eq!(done.len(), 20);
    assert!(matches!(
        other.commit(changes([put("k/a/x", "x")])).await,
        Err(CommitError::Closed)
    ));
    assert_eq!(drain(&mut watch).len(), 20);
    assert_eq!(watch.next().await, None);
    assert_eq!(other.snapshot().count(""), 20, "snapshots stay readable");
    assert_eq!(world.open().snapshot().count(""), 20);
}

async fn a_reader_can_wait_for_a_revision(world: World) {
    let store = world.open();
    let waiting = store.wait_for(2, Duration::from_secs(60));
    let writing = async {
        write(&store, "k/a/x", "one").await;
        write(&store, "k/a/x", "two").await;
    };
    let (reached, ()) = futures::join!(waiting, writing);
    assert_eq!(reached.unwrap().revision(), 2);
    let too_new = store.wait_for(9, Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(
        too_new,
        TooNew {
            requested: 9,
            current: 2
        }
    );
}

macro_rules! laws {
    ($world:ident, $cases:expr; $($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                super::$law(super::$world()).await;
            }
        )*

        #[test]
        fn events_replayed_on_a_list_give_the_present() {
            super::events_replayed_on_a_list_give_the_present(super::$world, $cases);
        }
    };
}

/// All laws for one engine: its name, how to make a world, and how many random runs it can afford.
macro_rules! suite {
    ($engine:ident, $world:ident, $cases:expr) => {
        mod $engine {
            laws! { $world, $cases;
                a_put_is_visible_durable_and_carries_its_revision
                preconditions_are_checked
                a_refused_transaction_changes_nothing_and_takes_no_revision
                of_many_who_expect_the_same_one_wins
                revisions_are_dense_under_concurrent_writers
                a_deletion_has_its_own_revision_and_the_last_header
                ranges_are_ordered_bounded_and_resumable
                pages_of_one_revision_stay_consistent_also_over_a_restart
                the_past_expires_with_time
                the_past_is_bounded_and_folding_it_loses_nothing
                a_watch_delivers_what_matches_from_its_revision_on
                a_watch_wakes_for_its_events_only_and_its_revision_moves_on
                a_slow_watcher_is_told_and_harms_nobody
                close_finishes_what_waits_and_ends_watches
                a_reader_can_wait_for_a_revision
            }
        }
    };
}

suite!(memory, memory_world, 256);
suite!(sled, sled_world, 24);
