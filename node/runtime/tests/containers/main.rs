//! Real guests in real sandboxes over the real network.

mod http;
mod limits;
mod modules;
mod network;
mod process;
mod world;
