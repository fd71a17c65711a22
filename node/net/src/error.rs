//! The one vocabulary of failure that a socket user sees, named after what POSIX would say.
//!
//! The runtime maps these onto `wasi:sockets` error codes and the host side onto `std::io::Error`; nothing here carries
//! host detail, so that a guest learns nothing about the machine below it.

use std::io;

/// Why a socket operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NetError {
    /// Another socket of the pod holds the address, or another pod the IP (EADDRINUSE).
    #[error("address already in use")]
    AddrInUse,
    /// The address is not one of the pod's own (EADDRNOTAVAIL).
    #[error("address not available")]
    AddrNotAvailable,
    /// Nobody listens there, or the service has no ready endpoint (ECONNREFUSED).
    #[error("connection refused")]
    ConnectionRefused,
    /// The other side vanished without closing, for example because its pod was removed (ECONNRESET).
    #[error("connection reset")]
    ConnectionReset,
    /// Written after the peer stopped reading, or after the own shutdown (EPIPE).
    #[error("broken pipe")]
    BrokenPipe,
    /// The address lies in the cluster but nobody has it (EHOSTUNREACH).
    #[error("host unreachable")]
    HostUnreachable,
    /// The address lies outside the cluster, where no route leads (ENETUNREACH).
    #[error("network unreachable")]
    NetworkUnreachable,
    /// The pod of this socket has been removed (ENETDOWN).
    #[error("network is down")]
    NetworkDown,
    /// The other side did not take the connection in time (ETIMEDOUT).
    #[error("timed out")]
    TimedOut,
    /// The operation does not exist in this network (EOPNOTSUPP).
    #[error("not supported")]
    NotSupported,
    /// A policy forbids it (EACCES).
    #[error("denied by policy")]
    Denied,
    /// The pod holds as many sockets as it may (EMFILE).
    #[error("too many sockets")]
    TooManySockets,
    /// The memory account of the socket's owner is exhausted (ENOBUFS).
    #[error("no buffer space")]
    OutOfMemory,
    /// The datagram is larger than UDP can carry (EMSGSIZE).
    #[error("message too long")]
    MessageTooLong,
    /// The socket is in the wrong state, for example accept without listen (EINVAL).
    #[error("invalid socket state")]
    InvalidState,
    /// The name does not exist.
    #[error("name not found")]
    NameNotFound,
}

impl From<NetError> for io::Error {
    fn from(error: NetError) -> Self {
        use io::ErrorKind as Kind;
        let kind = match error {
            NetError::AddrInUse => Kind::AddrInUse,
            NetError::AddrNotAvailable => Kind::AddrNotAvailable,
            NetError::ConnectionRefused => Kind::ConnectionRefused,
            NetError::ConnectionReset => Kind::ConnectionReset,
            NetError::BrokenPipe => Kind::BrokenPipe,
            NetError::HostUnreachable => Kind::HostUnreachable,
            NetError::NetworkUnreachable => Kind::NetworkUnreachable,
            NetError::NetworkDown => Kind::NetworkDown,
            NetError::TimedOut => Kind::TimedOut,
            NetError::NotSupported => Kind::Unsupported,
            NetError::Denied => Kind::PermissionDenied,
            NetError::OutOfMemory => Kind::OutOfMemory,
            NetError::MessageTooLong | NetError::InvalidState => Kind::InvalidInput,
            NetError::NameNotFound => Kind::NotFound,
            NetError::TooManySockets => Kind::Other,
        };
        io::Error::new(kind, error)
    }
}
