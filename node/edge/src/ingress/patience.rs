//! How long a service may be silent: counted from the last byte of the request that moved, so that a slow upload is not
//! taken for a slow service.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// When something last moved; clones share it.
#[derive(Debug, Clone)]
pub struct Moved(Arc<Mutex<Instant>>);

impl Moved {
    /// It moves now.
    pub fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn again(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Waits for an answer while that does not take longer than `patience` after the last move; none then.
    pub async fn within<F: Future>(&self, patience: Duration, answer: F) -> Option<F::Output> {
        tokio::pin!(answer);
        loop {
            let until = *self.0.lock() + patience;
            tokio::select! {
                answer = &mut answer => return Some(answer),
                () = sleep_until(until) => {
                    if *self.0.lock() + patience <= Instant::now() {
                        return None;
                    }
                }
            }
        }
    }
}

/// A body that notes when it moves.
#[derive(Debug)]
pub struct Noted<B> {
    /// The body.
    pub body: B,
    /// Where that is noted.
    pub moved: Moved,
}

impl<B: Body + Unpin> Body for Noted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.moved.again();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn patience_begins_anew_while_the_request_moves() {
        let moved = Moved::now();
        let start = Instant::now();
        let never = moved.within(PATIENCE, std::future::pending::<()>());
        assert_eq!(never.await, None);
        assert_eq!(start.elapsed().as_secs(), 60);

        let moved = Moved::now();
        let upload = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(40)).await;
                let body = Full::new(Bytes::from_static(b"part"));
                let noted = Noted {
                    body,
                    moved: moved.clone(),
                };
                noted.collect().await.unwrap();
            }
            "answer"
        };
        assert_eq!(moved.within(PATIENCE, upload).await, Some("answer"));
        let silence = moved.within(PATIENCE, tokio::time::sleep(Duration::from_secs(61)));
        assert_eq!(silence.await, None);
    }
}
