//! A connect under way: usually finished at once, waiting only where the listener's backlog is full.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use crate::listener::Offer;
use crate::sync::oneshot;
use crate::{Conn, NetError, Stream};

/// A connect under way. Dropping it gives up; it needs a tokio runtime with time only while it waits.
#[derive(Debug)]
pub struct Connecting {
    state: State,
}

#[derive(Debug)]
enum State {
    Done(Option<Result<Conn, NetError>>),
    Waiting {
        conn: Conn,
        admitted: oneshot::Receiver<Result<(), NetError>>,
        limit: Duration,
        deadline: Option<Pin<Box<Sleep>>>,
    },
}

impl Connecting {
    pub(crate) fn done(outcome: Result<Conn, NetError>) -> Self {
        Self {
            state: State::Done(Some(outcome)),
        }
    }

    /// The client's end `conn`, whose other end was offered to a listener, waiting no longer than `limit`.
    pub(crate) fn offered(conn: Conn, offer: Offer, limit: Duration) -> Self {
        match offer {
            Offer::Queued => Self::done(Ok(conn)),
            Offer::Refused => Self::done(Err(NetError::ConnectionRefused)),
            Offer::Wait(admitted) => Self {
                state: State::Waiting {
                    conn,
                    admitted,
                    limit,
                    deadline: None,
                },
            },
        }
    }

    /// Waits for the connection as tokio sees it.
    ///
    /// # Errors
    /// Why the connect failed.
    pub async fn stream(self) -> Result<Stream, NetError> {
        self.await.map(Stream::from)
    }
}

impl Future for Connecting {
    type Output = Result<Conn, NetError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Waiting {
            admitted,
            limit,
            deadline,
            ..
        } = &mut self.state
        {
            let outcome = match Pin::new(admitted).poll(cx) {
                Poll::Ready(Ok(outcome)) => outcome,
                Poll::Ready(Err(_)) => Err(NetError::ConnectionRefused),
                Poll::Pending => {
                    let limit = *limit;
                    let deadline = deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                    std::task::ready!(deadline.as_mut().poll(cx));
                    Err(NetError::TimedOut)
                }
            };
            let finished = std::mem::replace(&mut self.state, State::Done(None));
            return Poll::Ready(match finished {
                State::Waiting { conn, .. } => outcome.map(|()| conn),
                State::Done(_) => Err(NetError::InvalidState),
            });
        }
        match &mut self.state {
            State::Done(outcome) => Poll::Ready(outcome.take().unwrap_or(Err(NetError::InvalidState))),
            State::Waiting { .. } => Poll::Pending,
        }
    }
}
