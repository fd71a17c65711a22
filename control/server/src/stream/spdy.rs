//! SPDY/3.1 as Kubernetes' clients speak it: many streams over one connection, the client opens them.
//!
//! There is no flow control in the clients' library, so none here: a stream whose reader does not read holds up the
//! connection, and with it only this one client.

pub(crate) mod frame;
mod headers;
mod session;

pub(super) use session::{Incoming, Writer, session, session_over};
