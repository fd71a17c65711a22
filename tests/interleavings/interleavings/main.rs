//! The threads of the pod network in every order in which they can meet.
//!
//! Each test is a model: two or three threads that do a few steps each, run again and again by loom until every order of
//! these steps was tried that makes a difference, or in the longest of them every order with few changes of thread. What
//! nobody would ever wake is a deadlock, which loom reports. It cannot see the state inside of tokio's watch channels and of
//! arc-swap, so no model lets threads race for these.
//!
//! A model that fails may take the whole program with it, because what its threads hold is dropped outside of it. Then look
//! at the first message, and run that test alone; with `LOOM_LOCATION=1`, the report of a deadlock says where each thread is.

// Clippy spares test functions by itself, but not the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod datagrams;
mod listeners;
mod streams;
mod threads;
mod world;
