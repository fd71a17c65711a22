//! Sockets that tell where a connection was meant to go, which the library's do not.

use std::io::{Error, Result};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, Ipv4SocketAddress};
use wasip2::sockets::tcp::{IpAddressFamily, IpSocketAddress, ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wstd::io::{AsyncInputStream, AsyncOutputStream};
use wstd::runtime::AsyncPollable;

/// A connection.
pub struct Socket {
    // The streams belong to the socket and have to go first.
    input: AsyncInputStream,
    output: AsyncOutputStream,
    socket: TcpSocket,
}

impl Socket {
    /// Connects.
    pub async fn connect(to: SocketAddr) -> Result<Self> {
        let socket = create_tcp_socket(IpAddressFamily::Ipv4).map_err(failed)?;
        socket.start_connect(&instance_network(), wasi(to)?).map_err(failed)?;
        AsyncPollable::new(socket.subscribe()).wait_for().await;
        let (input, output) = socket.finish_connect().map_err(failed)?;
        Ok(Self {
            input: AsyncInputStream::new(input),
            output: AsyncOutputStream::new(output),
            socket,
        })
    }

    /// Where it was meant to go, for one that was accepted.
    pub fn local_address(&self) -> Result<SocketAddr> {
        match self.socket.local_address().map_err(failed)? {
            IpSocketAddress::Ipv4(Ipv4SocketAddress {
                address: (a, b, c, d),
                port,
            }) => Ok(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port).into()),
            IpSocketAddress::Ipv6(_) => Err(Error::other("an IPv6 address")),
        }
    }

    /// Reads; none at the end.
    pub async fn read(&self, into: &mut [u8]) -> Result<usize> {
        self.input.read(into).await
    }

    /// Writes all.
    pub async fn write(&self, bytes: &[u8]) -> Result<()> {
        self.output.write_all(bytes).await?;
        self.output.flush().await
    }

    /// There is no more to send.
    pub fn finish(&self) -> Result<()> {
        // The other side may have gone already.
        let _ = self.socket.shutdown(ShutdownType::Send);
        Ok(())
    }
}

/// A port that listens.
pub struct Listener {
    ready: AsyncPollable,
    socket: TcpSocket,
}

impl Listener {
    /// Listens.
    pub async fn bind(at: SocketAddr) -> Result<Self> {
        let socket = create_tcp_socket(IpAddressFamily::Ipv4).map_err(failed)?;
        let ready = AsyncPollable::new(socket.subscribe());
        socket.start_bind(&instance_network(), wasi(at)?).map_err(failed)?;
        ready.wait_for().await;
        socket.finish_bind().map_err(failed)?;
        socket.start_listen().map_err(failed)?;
        ready.wait_for().await;
        socket.finish_listen().map_err(failed)?;
        Ok(Self { ready, socket })
    }

    /// The next connection.
    pub async fn accept(&self) -> Result<Socket> {
        loop {
            self.ready.wait_for().await;
            match self.socket.accept() {
                Ok((socket, input, output)) => {
                    return Ok(Socket {
                        input: AsyncInputStream::new(input),
                        output: AsyncOutputStream::new(output),
                        socket,
                    });
                }
                Err(ErrorCode::WouldBlock) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

fn wasi(address: SocketAddr) -> Result<IpSocketAddress> {
    let SocketAddr::V4(address) = address else {
        return Err(Error::other("an IPv6 address"));
    };
    let [a, b, c, d] = address.ip().octets();
    Ok(IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: address.port(),
        address: (a, b, c, d),
    }))
}

fn failed(error: ErrorCode) -> Error {
    Error::other(error.name())
}
