//! A whole server in memory, driven from the outside: through the chain in this process, and over TLS.

mod access;
mod forward;
mod kinds;
mod watching;
mod wire;
mod world;
mod writes;
