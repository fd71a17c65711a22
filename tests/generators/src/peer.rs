//! A server in the pod network that answers badly as often as well.

use std::net::SocketAddr;

use coracle_net::{Fabric, HostService, NetError, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Where it is.
pub(crate) const ADDRESS: ([u8; 4], u16) = ([10, 96, 0, 1], 80);

/// Bytes of a request's head that it reads.
const HEAD_BYTES: usize = 4096;

/// What it answers, by the path.
const ANSWERS: [&str; 10] = [
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\ntoo short",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nafter: all\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello",
    "HTTP/1.1 204 No Content\r\n\r\nand yet there is",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 599 Odd\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: else\r\nconnection: upgrade\r\n\r\n\0\0\0",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "\0\x01\x02 no HTTP at all\r\n\r\n",
    "",
];

/// Begins to answer, for as long as the result is held.
pub(crate) fn serve(fabric: &Fabric) -> Result<HostService, NetError> {
    fabric.serve_host(SocketAddr::from(ADDRESS), answer)
}

async fn answer(mut stream: Stream) {
    let mut head = vec![0; HEAD_BYTES];
    let Ok(count) = stream.read(&mut head).await else {
        return;
    };
    let path = head.iter().take(count).skip_while(|byte| **byte != b'/').skip(1);
    let number = path
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0usize, |sum, digit| (sum * 10 + usize::from(digit - b'0')) % 1000);
    let text = ANSWERS.get(number % ANSWERS.len()).copied().unwrap_or_default();
    // Whoever asked may be gone.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}
