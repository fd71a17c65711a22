//! The processes of one container: their numbers, who started whom, and the signals that they are sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::exit;

/// The number of a container's own program.
pub(crate) const MAIN: u32 = 1;

/// What a signal's code is above.
const SIGNALED: i32 = 128;

/// Signals by their Linux numbers.
pub(crate) mod signal {
    pub(crate) const INTERRUPT: u8 = 2;
    pub(crate) const KILL: u8 = 9;
    pub(crate) const TERMINATE: u8 = 15;
    /// Those whose default action is nothing: a child ended, go on, urgent data, the window changed.
    pub(super) const IGNORED: [u8; 4] = [17, 18, 23, 28];
    /// Those that stop a process: nothing here can be stopped and carried on.
    pub(super) const STOPPING: [u8; 4] = [19, 20, 21, 22];
    /// The highest that has a name.
    pub(super) const LAST: u8 = 31;
}

/// One process, as others can reach it.
pub(crate) struct Member {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// The process that exec started, for it and all that came of it; the container's own for the others.
    pub(crate) group: u32,
    /// Not meant by the interrupt key.
    background: bool,
    pub(crate) args: Vec<String>,
    started: Instant,
    /// The code to end with.
    stop: watch::Sender<Option<i32>>,
    /// The signals that are told and do not end, a bit each.
    catching: AtomicU64,
    /// Those that came.
    pending: watch::Sender<u64>,
}

impl Member {
    /// For how long it has run.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends it at once. The first order counts.
    pub(crate) fn end(&self, code: i32) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            stop.get_or_insert(code);
            first
        });
    }

    /// Whether it was told to end.
    pub(crate) fn is_ordered_to_end(&self) -> bool {
        self.stop.borrow().is_some()
    }

    /// Waits for an order to end, and returns the code.
    pub(crate) async fn ordered_to_end(&self) -> i32 {
        let mut stop = self.stop.subscribe();
        match stop.wait_for(Option::is_some).await {
            Ok(code) => code.unwrap_or(exit::KILLED),
            Err(_) => exit::KILLED,
        }
    }

    /// Sends a signal; false when there is none of that number.
    pub(crate) fn tell(&self, number: u8) -> bool {
        let bit = 1_u64 << number.min(63);
        match number {
            0 => {}
            _ if number > signal::LAST || signal::STOPPING.contains(&number) => return false,
            _ if number != signal::KILL && self.catching.load(Ordering::Acquire) & bit != 0 => {
                self.pending.send_modify(|pending| *pending |= bit);
            }
            _ if signal::IGNORED.contains(&number) => {}
            _ => self.end(SIGNALED + i32::from(number)),
        }
        true
    }

    /// From now on these are told, and no others.
    pub(crate) fn catch(&self, numbers: &[u8]) {
        let bits = numbers
            .iter()
            .filter(|number| **number <= signal::LAST)
            .fold(0, |bits, number| bits | 1_u64 << number);
        self.catching.store(bits, Ordering::Release);
    }

    /// The signals that came since the last call.
    pub(crate) fn caught(&self) -> Vec<u8> {
        let mut bits = 0;
        self.pending.send_if_modified(|pending| {
            bits = std::mem::take(pending);
            false
        });
        (1..=signal::LAST).filter(|number| bits & (1 << number) != 0).collect()
    }

    /// Whether a signal came that was not looked at yet.
    fn is_pending(&self, number: u8) -> bool {
        *self.pending.borrow() & (1 << number) != 0
    }

    /// Waits for a signal that is caught.
    pub(crate) async fn told(&self) {
        let mut pending = self.pending.subscribe();
        if pending.wait_for(|pending| *pending != 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Where a new process belongs.
pub(crate) struct Kin {
    parent: u32,
    /// None: a group of its own.
    group: Option<u32>,
    background: bool,
}

impl Kin {
    /// Started from outside.
    pub(crate) fn alone() -> Self {
        Self {
            parent: 0,
            group: None,
            background: false,
        }
    }

    /// Started by a process.
    pub(crate) fn of(parent: &Member, background: bool) -> Self {
        Self {
            parent: parent.pid,
            group: Some(parent.group),
            background: background || parent.background,
        }
    }
}

/// All processes of a container.
pub(crate) struct Family {
    members: Mutex<Members>,
    ended: watch::Sender<bool>,
}

struct Members {
    next: u32,
    list: BTreeMap<u32, Arc<Member>>,
}

impl Family {
    /// A family of the container's own program.
    pub(crate) fn new(args: Vec<String>) -> (Self, Arc<Member>) {
        let family = Self {
            members: Mutex::new(Members {
                next: MAIN,
                list: BTreeMap::new(),
            }),
            ended: watch::Sender::new(false),
        };
        let main = family.join(Kin::alone(), args);
        (family, main)
    }

    /// Takes in a process. The interrupt key that its parent has not heard of yet means it too: it was pressed before there was a
    /// child that could hear it.
    pub(crate) fn join(&self, kin: Kin, args: Vec<String>) -> Arc<Member> {
        let mut members = self.members.lock();
        let pid = members.next;
        // Numbers are not used twice; a container that starts a million programs a second would live for an hour.
        members.next = members.next.saturating_add(1);
        let member = Arc::new(Member {
            pid,
            parent: kin.parent,
            group: kin.group.unwrap_or(pid),
            background: kin.background,
            args,
            started: Instant::now(),
            stop: watch::Sender::new(None),
            catching: AtomicU64::new(0),
            pending: watch::Sender::new(0),
        });
        let parent = members.list.get(&kin.parent);
        if parent.is_some_and(|parent| parent.is_ordered_to_end()) {
            // Its group was ended while this one was on its way: it must not be the one that is left.
            member.end(exit::KILLED);
        }
        if !kin.background && parent.is_some_and(|parent| parent.is_pending(signal::INTERRUPT)) {
            member.tell(signal::INTERRUPT);
        }
        members.list.insert(pid, member.clone());
        member
    }

    /// A process has ended.
    pub(crate) fn leave(&self, pid: u32) {
        self.members.lock().list.remove(&pid);
    }

    /// The container has ended, and so does every process.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Tells of the container's end.
    pub(crate) fn container_end(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    pub(crate) fn find(&self, pid: u32) -> Option<Arc<Member>> {
        self.members.lock().list.get(&pid).cloned()
    }

    /// All there are, in the order of their numbers.
    pub(crate) fn all(&self) -> Vec<Arc<Member>> {
        self.members.lock().list.values().cloned().collect()
    }

    /// The interrupt key of a terminal.
    pub(crate) fn interrupt(&self, group: u32) {
        // Under the lock: whoever joins later sees what its parent was told, and nobody is told twice.
        let members = self.members.lock();
        let front = members.list.values();
        front
            .filter(|member| member.group == group && !member.background)
            .for_each(|member| {
                member.tell(signal::INTERRUPT);
            });
    }

    /// Ends a group from outside.
    pub(crate) fn kill_group(&self, group: u32) {
        // Under the lock, as above: whoever joins later sees that its parent was ended.
        let members = self.members.lock();
        let group = members.list.values().filter(|member| member.group == group);
        group.for_each(|member| member.end(exit::KILLED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_ends_a_process_unless_it_is_caught() {
        let (family, main) = Family::new(vec!["a".into()]);
        main.catch(&[signal::TERMINATE, signal::KILL]);
        assert!(main.tell(signal::TERMINATE) && main.tell(signal::TERMINATE));
        main.told().await;
        assert_eq!(main.caught(), [signal::TERMINATE]);
        assert_eq!(main.caught(), [0_u8; 0]);
        assert!(main.tell(28) && main.tell(0) && !main.tell(19) && !main.tell(200));
        assert!(main.tell(signal::KILL));
        assert_eq!(main.ordered_to_end().await, 137);
        family.leave(main.pid);
        assert!(family.find(MAIN).is_none());
    }

    #[tokio::test]
    async fn the_interrupt_key_means_the_foreground_of_one_group() {
        let (family, main) = Family::new(Vec::new());
        let shell = family.join(Kin::alone(), Vec::new());
        let front = family.join(Kin::of(&shell, false), Vec::new());
        let back = family.join(Kin::of(&shell, true), Vec::new());
        shell.catch(&[signal::INTERRUPT]);
        family.interrupt(shell.group);
        assert_eq!(front.ordered_to_end().await, 130);
        assert_eq!(shell.caught(), [signal::INTERRUPT]);
        // Pressed again before the next one is there.
        family.interrupt(shell.group);
        let late = family.join(Kin::of(&shell, false), Vec::new());
        let later_back = family.join(Kin::of(&shell, true), Vec::new());
        assert_eq!(late.ordered_to_end().await, 130);
        assert!(!later_back.is_ordered_to_end());
        assert_eq!(shell.caught(), [signal::INTERRUPT]);
        let after = family.join(Kin::of(&shell, false), Vec::new());
        assert!(!after.is_ordered_to_end());
        family.kill_group(shell.group);
        assert_eq!(back.ordered_to_end().await, exit::KILLED);
        let orphan = family.join(Kin::of(&shell, true), Vec::new());
        assert_eq!(orphan.ordered_to_end().await, exit::KILLED);
        assert!(main.stop.borrow().is_none());
    }
}
