//! The connections of one container's server that wait for a request. Where all places are taken and somebody new comes, one of
//! them is closed, as servers elsewhere do: otherwise whoever opens them all and says nothing keeps everybody out. It is the one
//! that has waited longest, among those of the client who holds most. A connection whose request is being answered stays.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Those that wait, oldest first.
#[derive(Default)]
pub(super) struct Idle(Mutex<State>);

#[derive(Default)]
struct State {
    turn: u64,
    waiting: BTreeMap<u64, (IpAddr, CancellationToken)>,
    /// Somebody needs the place of the next one that would wait.
    wanted: bool,
}

impl State {
    /// The oldest of the client who has most.
    fn first_to_go(&self) -> Option<u64> {
        let mut held: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        // Backwards, so that the oldest is written last.
        for (turn, (client, _)) in self.waiting.iter().rev() {
            let of_client = held.entry(*client).or_default();
            *of_client = (of_client.0 + 1, *turn);
        }
        let most = held.into_values().max_by_key(|(count, turn)| (*count, u64::MAX - turn));
        most.map(|(_, turn)| turn)
    }
}

impl Idle {
    /// Closes one that waits, or the next that begins to.
    pub(super) fn close_one(&self) {
        let mut state = self.0.lock();
        let first = state.first_to_go();
        match first.and_then(|turn| state.waiting.remove(&turn)) {
            Some((_, closed)) => closed.cancel(),
            None => state.wanted = true,
        }
    }

    /// Nobody needs a place any more.
    pub(super) fn enough(&self) {
        self.0.lock().wanted = false;
    }

    fn begin(&self, client: IpAddr, closed: &CancellationToken) -> u64 {
        let mut state = self.0.lock();
        state.turn += 1;
        let turn = state.turn;
        match std::mem::take(&mut state.wanted) {
            true => closed.cancel(),
            false => drop(state.waiting.insert(turn, (client, closed.clone()))),
        }
        turn
    }

    fn end(&self, turn: u64) {
        self.0.lock().waiting.remove(&turn);
    }
}

/// One connection.
pub(super) struct Connection {
    idle: Arc<Idle>,
    client: IpAddr,
    /// Told when it is closed for somebody else.
    pub(super) closed: CancellationToken,
    work: Mutex<Work>,
}

struct Work {
    /// Requests that are being answered: one at a time, but for the moment between two.
    requests: usize,
    turn: u64,
}

impl Connection {
    pub(super) fn new(idle: &Arc<Idle>, client: IpAddr) -> Arc<Self> {
        let closed = CancellationToken::new();
        Arc::new(Self {
            work: Mutex::new(Work {
                requests: 0,
                turn: idle.begin(client, &closed),
            }),
            idle: idle.clone(),
            client,
            closed,
        })
    }

    /// A request is being answered as long as this is held.
    pub(super) fn request(self: &Arc<Self>) -> Answering {
        let mut work = self.work.lock();
        work.requests += 1;
        self.idle.end(work.turn);
        Answering(self.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.idle.end(self.work.get_mut().turn);
    }
}

/// See [`Connection::request`].
pub(super) struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut work = self.0.work.lock();
        work.requests -= 1;
        if work.requests == 0 {
            work.turn = self.0.idle.begin(self.0.client, &self.0.closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn who_holds_most_loses_the_oldest() {
        let idle = Arc::new(Idle::default());
        let own = Connection::new(&idle, CLIENT);
        let many: Vec<_> = (0..3).map(|_| Connection::new(&idle, OTHER)).collect();
        let closed = || many.iter().map(|other| other.closed.is_cancelled()).collect::<Vec<_>>();
        idle.close_one();
        assert_eq!(closed(), [true, false, false]);
        idle.close_one();
        assert_eq!(closed(), [true, true, false]);
        // Of those who hold as many, who has waited longest.
        idle.close_one();
        assert!(own.closed.is_cancelled());
    }

    #[test]
    fn the_one_that_has_waited_longest_goes_and_no_one_at_work() {
        let idle = Arc::new(Idle::default());
        let [first, second, third] = [(); 3].map(|()| Connection::new(&idle, CLIENT));
        let answering = first.request();
        idle.close_one();
        assert!(second.closed.is_cancelled() && !first.closed.is_cancelled() && !third.closed.is_cancelled());
        let other = third.request();
        idle.close_one();
        assert!(!first.closed.is_cancelled() && !third.closed.is_cancelled());
        // The first that would wait now.
        drop(other);
        drop(answering);
        assert!(third.closed.is_cancelled() && !first.closed.is_cancelled());
        idle.close_one();
        assert!(first.closed.is_cancelled());
        idle.close_one();
        idle.enough();
        assert!(!Connection::new(&idle, CLIENT).closed.is_cancelled());
    }
}
