use proptest::prelude::*;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn contender(name: &str) -> Contender {
    Contender::new(name.to_owned(), Timing::default())
}

/// What it writes into the Lease, seen by itself at once.
fn takes(contender: &mut Contender, when: u64) -> Record {
    let record = contender.claim(seconds(when), at(1_000)).unwrap();
    contender.won(record.clone(), seconds(when), seconds(when));
    record
}

#[test]
fn durations_that_do_not_go_together_are_refused() {
    let timing = |lease, renew, retry| {
        let (lease, renew, retry) = (seconds(lease), seconds(renew), seconds(retry));
        Timing { lease, renew, retry }.checked().err()
    };
    assert_eq!(timing(15, 10, 2), None);
    assert_eq!(timing(10, 10, 2), Some(TimingError::Lease));
    assert_eq!(timing(15, 10, 9), Some(TimingError::Renew));
    assert_eq!(timing(15, 10, 0), Some(TimingError::Retry));
    let half = Timing {
        lease: Duration::from_millis(1500),
        ..Timing::default()
    };
    assert_eq!(half.lease_seconds(), 2, "others never wait less than is meant");
}

#[test]
fn the_first_takes_the_lease_and_the_second_waits_for_its_end() {
    let (mut first, mut second) = (contender("a"), contender("b"));
    let record = takes(&mut first, 0);
    assert_eq!((record.lease_seconds, record.transitions), (15, 0));
    assert!(
        first.leads(seconds(9)) && !first.leads(seconds(10)),
        "it goes on for its deadline"
    );
    // It sees the Lease late, and by a clock of its own; it waits from there on, whatever the times in it say.
    second.saw(Some(record.clone()), seconds(100));
    second.saw(Some(record), seconds(110));
    assert_eq!(second.claim(seconds(114), at(99_999)), None);
    let taken = takes(&mut second, 115);
    assert_eq!((taken.holder.as_str(), taken.transitions), ("b", 1));
    first.saw(Some(taken), seconds(5));
    assert!(!first.leads(seconds(5)), "it has been taken from it");
}

#[test]
fn a_renewal_keeps_others_away_and_its_beginning_counts() {
    let (mut first, mut second) = (contender("a"), contender("b"));
    second.saw(Some(takes(&mut first, 0)), seconds(0));
    let renewed = first.claim(seconds(8), at(1_008)).unwrap();
    assert_eq!((renewed.acquired, renewed.renewed), (Some(at(1_000)), Some(at(1_008))));
    first.won(renewed.clone(), seconds(8), seconds(12));
    assert_eq!(first.leads_until(), seconds(18));
    second.saw(Some(renewed), seconds(14));
    assert_eq!(second.claim(seconds(28), at(0)), None);
    assert!(second.claim(seconds(29), at(0)).is_some());
}

#[test]
fn what_is_released_is_taken_at_once_and_only_by_others_words() {
    let (mut first, mut second) = (contender("a"), contender("b"));
    let record = takes(&mut first, 0);
    second.saw(Some(record), seconds(0));
    assert_eq!(second.release(at(0)), None, "it is not its own");
    let released = first.release(at(1_001)).unwrap();
    assert!(!first.leads(seconds(0)));
    second.saw(Some(released), seconds(1));
    assert_eq!(second.holder(), None);
    assert_eq!(takes(&mut second, 1).transitions, 1);
}

#[test]
fn a_lease_of_another_implementation_is_held_by_its_own_words() {
    let mut ours = contender("a");
    let theirs = Record {
        holder: "theirs".to_owned(),
        lease_seconds: 60,
        ..Record::default()
    };
    ours.saw(Some(theirs), seconds(0));
    assert_eq!(ours.claim(seconds(59), at(0)), None);
    assert!(ours.claim(seconds(60), at(0)).is_some());
}

/// What one contender does next in the game below, in thousandths of a true second from its last move.
#[derive(Clone, Debug)]
struct Move {
    who: usize,
    /// How long its request is under way, and its answer.
    there: u64,
    back: u64,
    /// Whether the answer is lost.
    lost: bool,
    /// How long until it looks again.
    pause: u64,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = (
        0..3_usize,
        0..6_000_u64,
        0..6_000_u64,
        prop::bool::weighted(0.2),
        0..4_000_u64,
    );
    let one = one.prop_map(|(who, there, back, lost, pause)| Move {
        who,
        there,
        back,
        lost,
        pause,
    });
    prop::collection::vec(one, 1..120)
}

/// The server's side: the Lease and how often it was written.
#[derive(Default)]
struct Server {
    lease: Option<Record>,
    writes: u64,
}

/// A contender whose clock runs at a rate of its own, and where it is in its attempt.
struct Player {
    contender: Contender,
    /// Thousandths of its own seconds to a true one.
    rate: u64,
    next: u64,
}

impl Player {
    fn clock(&self, true_millis: u64) -> Duration {
        Duration::from_micros(true_millis * self.rate)
    }

    fn leads(&self, true_millis: u64) -> bool {
        self.contender.leads(self.clock(true_millis))
    }
}

/// What happens at a time: requests reach the server and answers come back in any order that the delays make.
enum Event {
    Read {
        who: usize,
        step: Move,
        began: u64,
    },
    Answer {
        who: usize,
        step: Move,
        began: u64,
        found: Option<Record>,
        version: u64,
    },
    Write {
        who: usize,
        step: Move,
        began: u64,
        record: Record,
        version: u64,
    },
    Written {
        who: usize,
        began: u64,
        record: Record,
    },
}

proptest! {
    /// However requests are delayed and answers lost, while clocks run at rates within `lease / renew` of each other.
    #[test]
    fn there_are_never_two_leaders(moves in moves(), rates in prop::array::uniform3(1_000..1_499_u64)) {
        let (mut server, mut queue) = (Server::default(), std::collections::BTreeMap::new());
        let mut players: Vec<Player> = ["a", "b", "c"].iter().zip(rates)
            .map(|(name, rate)| Player { contender: contender(name), rate, next: 0 }).collect();
        let mut serial = 0_u64;
        let mut put = |queue: &mut std::collections::BTreeMap<(u64, u64), Event>, when: u64, event: Event| {
            serial += 1;
            queue.insert((when, serial), event);
        };
        for step in moves {
            let player = &mut players[step.who];
            let began = player.next;
            // A whole attempt takes two ways there and back; the next one begins after it.
            player.next = began + 2 * (step.there + step.back) + step.pause;
            let when = began + step.there;
            put(&mut queue, when, Event::Read { who: step.who, step, began });
        }
        while let Some(((now, _), event)) = queue.pop_first() {
            match event {
                Event::Read { who, step, began } => {
                    let (found, version) = (server.lease.clone(), server.writes);
                    let when = now + step.back;
                    put(&mut queue, when, Event::Answer { who, step, began, found, version });
                }
                Event::Answer { who, step, began, found, version } => {
                    let player = &mut players[who];
                    let clock = player.clock(now);
                    player.contender.saw(found, clock);
                    if let Some(record) = player.contender.claim(clock, Timestamp::from_microsecond(i64::try_from(now).unwrap()).unwrap()) {
                        put(&mut queue, now + step.there, Event::Write { who, step, began, record, version });
                    }
                }
                Event::Write { who, step, began, record, version } => {
                    if server.writes == version {
                        server.writes += 1;
                        server.lease = Some(record.clone());
                        if !step.lost {
                            put(&mut queue, now + step.back, Event::Written { who, began, record });
                        }
                    }
                }
                Event::Written { who, began, record } => {
                    let player = &mut players[who];
                    let (began, clock) = (player.clock(began), player.clock(now));
                    player.contender.won(record, began, clock);
                }
            }
            // Leadership ends between events only, so what holds right after each holds always.
            let leaders: Vec<usize> = (0..players.len()).filter(|who| players[*who].leads(now)).collect();
            prop_assert!(leaders.len() <= 1, "{leaders:?} lead at {now} ms");
        }
    }
}
