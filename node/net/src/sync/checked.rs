//! What [`crate::sync`] is under the model checker: loom's own primitives with the signatures of the others.

use std::sync::PoisonError;

pub(crate) use loom::sync::atomic;
use loom::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    #[track_caller]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(loom::sync::RwLock<T>);

impl<T> RwLock<T> {
    #[track_caller]
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    #[track_caller]
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// tokio's channel for one value. The checker does not see into it, so each step is preceded by one that it sees: what
/// follows, up to the next such step, is done at once.
pub(crate) mod oneshot {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::RecvError;

    type Step = Arc<super::Mutex<()>>;

    pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let step = Step::default();
        let (sender, receiver) = oneshot::channel();
        let sender = Some(sender);
        (
            Sender {
                sender,
                step: step.clone(),
            },
            Receiver { receiver, step },
        )
    }

    #[derive(Debug)]
    pub(crate) struct Sender<T> {
        /// None once the value is sent.
        sender: Option<oneshot::Sender<T>>,
        step: Step,
    }

    impl<T> Sender<T> {
        pub(crate) fn send(mut self, value: T) -> Result<(), T> {
            drop(self.step.lock());
            match self.sender.take() {
                Some(sender) => sender.send(value),
                None => Err(value),
            }
        }

        pub(crate) fn is_closed(&self) -> bool {
            drop(self.step.lock());
            self.sender.as_ref().is_none_or(oneshot::Sender::is_closed)
        }

        pub(crate) async fn closed(&mut self) {
            drop(self.step.lock());
            if let Some(sender) = &mut self.sender {
                sender.closed().await;
            }
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            if self.sender.is_some() {
                drop(self.step.lock());
            }
        }
    }

    #[derive(Debug)]
    pub(crate) struct Receiver<T> {
        receiver: oneshot::Receiver<T>,
        step: Step,
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, RecvError>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            drop(self.step.lock());
            Pin::new(&mut self.receiver).poll(cx)
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            drop(self.step.lock());
        }
    }
}
