//! Every attack of the table beside a neighbour: first all that end by what they do, then all that go on, each kind at once.

use std::time::Duration;

use coracle::fuzz::held::Held;
use coracle_isolation::attacks::{ATTACKS, Attack, End};
use coracle_isolation::scene::Room;

/// How long the crowd is watched: what goes on has its first second over.
const SPAN: Duration = Duration::from_secs(4);

/// Objects that must not be lost.
const KEPT: usize = 50;

/// What the process may take for all of them: their limits of 32 MiB each, and as much again for code, stacks, logs' pages and
/// the API's own copies.
const RESIDENT_BYTES: u64 = ATTACKS.len() as u64 * (64 << 20);

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_is_contained_beside_a_neighbour() {
    let _alone = crate::alone().await;
    let room = Room::open(crate::compiler()).await;
    let kept = room.fill(KEPT).await;
    assert_eq!(kept.len(), KEPT);
    let (going_on, ending): (Vec<_>, Vec<_>) = ATTACKS.iter().copied().partition(|attack| attack.end == End::Never);
    all_at_once(&room, &ending).await;
    all_at_once(&room, &going_on).await;
    assert_eq!(room.kept().await, kept);
    // The room is as before: the next pod runs.
    let hello = room.world.output("next", "hostile", &["environment"]).await;
    assert_eq!(hello, "looked\n");
}

async fn all_at_once(room: &Room, attacks: &[Attack]) {
    let outcome = room.run(attacks, SPAN).await;
    let wrong: Vec<_> = outcome.pods.iter().filter(|seen| !seen.as_expected).collect();
    let wrong: Vec<_> = wrong
        .iter()
        .map(|seen| format!("{}: {}", seen.name, seen.words))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");

    let (neighbour, api) = (&outcome.measured.neighbour, &outcome.measured.api);
    assert_eq!((&neighbour.failure, &api.failure), (&None, &None), "without an answer");
    assert!(neighbour.answered > 0 && api.answered > 0);
    let grown = outcome.over.memory_bytes.unwrap();
    assert!(grown < RESIDENT_BYTES, "{} MiB were taken", grown >> 20);
    assert!(outcome.handles_came_back, "{:?} handles are open", Held::now().handles);
}
