//! `worker`: a job that computes something and ends.
//!
//! ```text
//! worker [LIMIT] [EXIT_CODE]    counts the primes below LIMIT (default 1000000), then exits with EXIT_CODE (default 0)
//! ```
//!
//! `LIMIT` and `EXIT_CODE` may also come from the environment.

use std::env;
use std::time::Instant;

fn main() {
    let limit = setting(1, "LIMIT").unwrap_or(1_000_000);
    let exit_code = setting(2, "EXIT_CODE").unwrap_or(0);

    println!("worker: counting the primes below {limit}");
    let start = Instant::now();
    let (count, largest) = primes_below(limit);
    println!(
        "worker: {count} primes, the largest is {largest}, in {:?}",
        start.elapsed()
    );

    if exit_code != 0 {
        println!("worker: exiting with {exit_code}");
        // std can only say "ok" or "failed" in WASI 0.2; this call carries the code itself.
        wasip2::cli::exit::exit_with_code(exit_code as u8);
    }
}

/// The sieve of Eratosthenes: how many primes there are below `limit`, and the largest of them.
fn primes_below(limit: usize) -> (usize, usize) {
    let mut composite = vec![false; limit];
    let (mut count, mut largest) = (0, 0);
    for n in 2..limit {
        if !composite[n] {
            (count, largest) = (count + 1, n);
            composite
                .iter_mut()
                .skip(n.saturating_mul(n))
                .step_by(n)
                .for_each(|c| *c = true);
        }
    }
    (count, largest)
}

/// A number from the command line, or else from the environment.
fn setting(position: usize, variable: &str) -> Option<usize> {
    let text = env::args().nth(position).or_else(|| env::var(variable).ok())?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")),
    )
}
