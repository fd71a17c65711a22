//! The chain for callers in the same process: no sockets, no TLS, the same rules.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::Service;

use crate::body::ResponseBody;
use crate::chain;
use crate::core::Core;
use crate::identity::Identity;

/// A client's end of the chain, with the identity that it acts as. Roles apply to that identity as to any other.
///
/// It is a tower service, so a Kubernetes client takes it in place of a connection. Cloning copies pointers.
#[derive(Clone)]
pub struct LocalService {
    core: Arc<Core>,
    identity: Identity,
}

impl LocalService {
    pub(crate) fn new(core: Arc<Core>, identity: Identity) -> Self {
        Self { core, identity }
    }

    /// Who this acts as.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl<B> Service<Request<B>> for LocalService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (core, identity) = (self.core.clone(), self.identity.clone());
        let request = request.map(|body| body.map_err(std::io::Error::other).boxed_unsync());
        Box::pin(async move { Ok(chain::serve(core, identity, request).await) })
    }
}
