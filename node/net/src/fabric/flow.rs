//! Datagrams from the host's side to a service: a flow for each client, with an address inside at which answers arrive.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use super::{Destination, Fabric};
use crate::host::{HostEntry, HostService};
use crate::sync::Mutex;
use crate::{ExposedAs, ExposedPort, NetError, Protocol};

/// Ports that are tried for a new flow: most are free, as flows are few and the numbers go round.
const TRIES: usize = 64;

/// One client's flow; dropping it ends it.
pub(crate) struct HostFlow {
    at: SocketAddr,
    endpoint: Arc<Mutex<Option<SocketAddr>>>,
    _answers: HostService,
}

impl Fabric {
    /// A flow whose answers go to `answer`; nobody but the flow's endpoint can send any.
    ///
    /// # Errors
    /// [`NetError::AddrInUse`] where no port is free; [`NetError::NotSupported`] outside a tokio runtime.
    pub(crate) fn open_flow(&self, answer: impl Fn(Bytes) + Send + Sync + 'static) -> Result<HostFlow, NetError> {
        let endpoint: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let of_flow = endpoint.clone();
        let entry = HostEntry::answers(move |data, from| {
            if *of_flow.lock() == Some(from) {
                answer(data);
            }
        })?;
        for _ in 0..TRIES {
            let at = self.0.host_addr(self.0.config.host_ip);
            match self.add_host((at, Protocol::Udp), entry.clone()) {
                Ok(answers) => {
                    return Ok(HostFlow {
                        at,
                        endpoint,
                        _answers: answers,
                    });
                }
                Err(NetError::AddrInUse) => {}
                Err(error) => return Err(error),
            }
        }
        Err(NetError::AddrInUse)
    }

    /// Sends a client's datagram to the service or pod behind a port of the host; the flow keeps its endpoint while that is one.
    ///
    /// # Errors
    /// [`NetError::NameNotFound`] and [`NetError::ConnectionRefused`] without a service or an endpoint;
    /// [`NetError::Denied`]; [`NetError::NotSupported`] where the endpoint is the host itself.
    pub(crate) fn send_exposed(
        &self,
        flow: &HostFlow,
        exposed: &ExposedPort,
        client: IpAddr,
        data: Bytes,
    ) -> Result<(), NetError> {
        let known = *flow.endpoint.lock();
        let (destination, is_new) = match exposed.exposed_as {
            ExposedAs::HostPort { .. } => (self.0.exposed_pod(exposed)?, known.is_none()),
            _ => {
                let backend = self.0.exposed_backend(exposed, client)?;
                let kept = known.filter(|endpoint| backend.serves(*endpoint));
                match kept.and_then(|endpoint| self.0.plain(endpoint)) {
                    Some(kept) => (kept, false),
                    None => {
                        let near = (None, None);
                        (
                            self.0.pick(&backend, client, near, Protocol::Udp, backend.reach())?,
                            true,
                        )
                    }
                }
            }
        };
        if is_new {
            self.0.permit_outside(client, &destination, Protocol::Udp)?;
        }
        match destination {
            Destination::Pod(pod, at) => {
                *flow.endpoint.lock() = Some(at);
                if let Some(mailbox) = pod.mailbox(at) {
                    mailbox.deliver(data, flow.at);
                }
            }
            Destination::Far(node, at) => {
                *flow.endpoint.lock() = Some(at);
                self.0.send_away(&node, flow.at, at, data);
            }
            Destination::Host(..) => return Err(NetError::NotSupported),
        }
        Ok(())
    }
}
