//! What a run of `coracle fuzz` found, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::{gauge::Measured, guest::Ended, held::Held};
use crate::args::FuzzArgs;

/// Handles that may be open beside those before: files of the store and of logs come and go.
const HANDLES: usize = 16;

/// Bytes of memory that the host may hold beside the guest's limit: what it compiles and what it keeps of what it did.
const BESIDE_BYTES: u64 = 256 << 20;

/// All of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The file, if one was named.
    pub component: Option<String>,
    /// The number of the first round.
    pub seed: u64,
    /// Bytes of memory that each guest may have.
    pub memory_limit_bytes: u64,
    /// The slowest that all but a hundredth of the answers may be.
    pub slowest_millis: f64,
    /// How it was before the first.
    pub before: Measured,
    /// Each guest.
    pub rounds: Vec<Round>,
    /// What was not contained.
    pub findings: Vec<Finding>,
}

/// One guest.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    /// Its number.
    pub seed: u64,
    /// What it was.
    pub guest: String,
    /// How it ended.
    #[serde(flatten)]
    pub ended: Ended,
    /// What was felt meanwhile.
    #[serde(flatten)]
    pub measured: Measured,
    /// What the process holds after it.
    pub settled: Held,
}

impl Round {
    pub fn new(seed: u64, guest: String, ended: Ended, measured: Measured, settled: Held) -> Self {
        Self {
            seed,
            guest,
            ended,
            measured,
            settled,
        }
    }
}

/// Something that was not contained.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The number of the round; none where it was seen at the end only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What.
    pub what: String,
}

impl Finding {
    pub fn at_the_end(what: String) -> Self {
        Self { seed: None, what }
    }
}

impl Report {
    pub fn new(args: &FuzzArgs, before: Measured) -> Self {
        Self {
            component: args.component.as_ref().map(|path| path.display().to_string()),
            seed: args.seed,
            memory_limit_bytes: args.memory.bytes,
            slowest_millis: args.slowest.as_secs_f64() * 1000.0,
            before,
            rounds: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Takes up a round, with what it did that it should not have been able to do.
    pub fn add(&mut self, round: Round) {
        let found = judge(&round, &self.before, self.memory_limit_bytes, self.slowest_millis);
        self.findings.extend(found.into_iter().map(|what| Finding {
            seed: Some(round.seed),
            what,
        }));
        self.rounds.push(round);
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:>6}  {:<10} {:<22} {:>6}  {:>9} {:>8}  {:>13} {:>9}\n",
            "seed", "guest", "ended", "s", "memory", "handles", "neighbour p99", "API p99"
        );
        let before = &self.before;
        let mut line =
            |seed: &str, guest: &str, how: &str, seconds: &str, memory: String, handles: String, m: &Measured| {
                // Writing to a string does not fail.
                let _ = writeln!(
                    text,
                    "{seed:>6}  {guest:<10} {how:<22} {seconds:>6}  {memory:>9} {handles:>8}  {:>10.2} ms {:>6.2} ms",
                    m.neighbour.p99_millis, m.api.p99_millis,
                );
            };
        let mebibytes = before
            .peak
            .memory_bytes
            .map_or_else(String::new, |bytes| format!("{} MiB", bytes >> 20));
        let handles = before.after.handles.map_or_else(String::new, |count| count.to_string());
        line("", "before", "", "", mebibytes, handles, before);
        for round in &self.rounds {
            let more = round.measured.peak.over(before.after);
            line(
                &round.seed.to_string(),
                &round.guest,
                &round.ended.words(),
                &format!("{:.1}", round.ended.seconds),
                more.memory_bytes
                    .map_or_else(String::new, |bytes| format!("+{} MiB", bytes >> 20)),
                more.handles.map_or_else(String::new, |count| format!("+{count}")),
                &round.measured,
            );
        }
        text.push('\n');
        for finding in &self.findings {
            let place = finding
                .seed
                .map_or_else(|| "at the end".to_owned(), |seed| format!("seed {seed}"));
            let _ = writeln!(text, "not contained: {place}: {}", finding.what);
        }
        match self.findings.iter().find_map(|finding| finding.seed) {
            Some(seed) => {
                let component = self.component.as_deref().unwrap_or_default();
                let _ = writeln!(text, "again: coracle fuzz {component} --seed {seed} --rounds 1");
            }
            None if self.findings.is_empty() => {
                let _ = writeln!(text, "{} rounds, all contained", self.rounds.len());
            }
            None => {}
        }
        text
    }
}

/// What a round did that it should not have been able to do.
fn judge(round: &Round, before: &Measured, limit_bytes: u64, slowest_millis: f64) -> Vec<String> {
    let mut found = Vec::new();
    let m = &round.measured;
    if let Some(why) = &round.ended.stuck {
        found.push(why.clone());
    }
    for (who, answers) in [("the neighbour", &m.neighbour), ("the API", &m.api)] {
        if let Some(why) = &answers.failure {
            found.push(format!("{} requests to {who} failed: {why}", answers.failed));
        }
        if answers.p99_millis > slowest_millis {
            found.push(format!(
                "{who} took {:.0} ms for a hundredth of the answers",
                answers.p99_millis
            ));
        }
    }
    if let Some(more) = m.peak.over(before.after).memory_bytes
        && more > limit_bytes.saturating_add(BESIDE_BYTES)
    {
        found.push(format!("the host took {} MiB for it", more >> 20));
    }
    if let Some(more) = round.settled.over(before.after).handles
        && more > HANDLES
    {
        found.push(format!("{more} handles stayed open"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(mebibytes: u64, handles: usize) -> Held {
        Held {
            memory_bytes: Some(mebibytes << 20),
            handles: Some(handles),
        }
    }

    fn round(change: impl FnOnce(&mut Round)) -> Vec<String> {
        let before = Measured {
            after: held(100, 50),
            ..Measured::default()
        };
        let mut round = Round::new(1, "io".into(), Ended::default(), before.clone(), held(100, 50));
        round.measured.peak = held(150, 60);
        change(&mut round);
        judge(&round, &before, 64 << 20, 1000.0)
    }

    #[test]
    fn what_was_felt_or_stayed_is_found() {
        assert_eq!(round(|_| {}), Vec::<String>::new());
        let found = |change: fn(&mut Round), word: &str| {
            let found = round(change);
            assert!(found.len() == 1 && found[0].contains(word), "{found:?} {word}");
        };
        found(|round| round.measured.neighbour.failure = Some("reset".into()), "reset");
        found(|round| round.measured.api.p99_millis = 1500.0, "the API took 1500 ms");
        found(|round| round.measured.peak.memory_bytes = Some(500 << 20), "400 MiB");
        found(|round| round.settled.handles = Some(70), "20 handles");
        found(|round| round.ended.stuck = Some("it cannot be ended".into()), "ended");
    }
}
