//! Nothing but tests: see `simulation/main.rs`.
