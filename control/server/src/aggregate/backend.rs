//! One registration, compiled: where its server is, and how it is spoken to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::is_available;
use crate::core::Core;
use crate::dial::Duplex;
use crate::outbound::{self, Trust};
use crate::{Pki, document};

/// A server of kinds behind this one.
pub(crate) struct Backend {
    /// The registration's name: `VERSION.GROUP`.
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    /// Which groups and versions are shown and preferred first: the higher.
    pub(crate) group_priority: i64,
    pub(crate) version_priority: i64,
    /// The service behind which it runs.
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: u16,
    /// Whether it answers, as far as is known.
    pub(crate) available: bool,
    /// What the registration wants: a change of it makes another backend.
    pub(super) spec: Value,
    /// TLS towards it, or why there can be none.
    tls: Result<TlsConnector, String>,
}

impl Backend {
    /// Reads a registration; none for groups that are served here.
    pub(super) fn of(service: &Value, pki: &Pki) -> Option<Self> {
        let target = object::get(service, "spec.service")?;
        let text = |path: &str| object::text(service, path).to_owned();
        let bundle = STANDARD
            .decode(object::text(service, "spec.caBundle"))
            .unwrap_or_default();
        let trust = match object::truth(service, "spec.insecureSkipTLSVerify") {
            true => Trust::Anyone,
            false => Trust::Authorities(&bundle),
        };
        let number = |path: &str| object::integer(service, path).unwrap_or_default();
        let port = object::integer(target, "port").and_then(|port| u16::try_from(port).ok());
        Some(Self {
            name: object::name(service).to_owned(),
            group: text("spec.group"),
            version: text("spec.version"),
            group_priority: number("spec.groupPriorityMinimum"),
            version_priority: number("spec.versionPriority"),
            namespace: object::text(target, "namespace").to_owned(),
            service: object::text(target, "name").to_owned(),
            port: port.unwrap_or(443),
            available: is_available(service),
            spec: service.get("spec").cloned().unwrap_or_default(),
            tls: outbound::connector(trust, Some(pki.front_proxy())).map_err(|error| error.to_string()),
        })
    }

    /// The name under which the pod network knows the server, and which its certificate must have.
    pub(super) fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// The key of the service.
    pub(super) fn service_key(&self) -> String {
        format!("services/{}/{}", self.namespace, self.service)
    }

    /// What the keys of the slices of its namespace begin with.
    pub(super) fn slices_prefix(&self) -> String {
        format!("endpointslices.discovery.k8s.io/{}/", self.namespace)
    }

    /// The path of its group and version.
    pub(crate) fn path(&self) -> String {
        format!("apis/{}/{}", self.group, self.version)
    }

    /// Connects to the server, with the certificate by which it knows this one.
    pub(super) async fn connect(&self, core: &Core) -> Result<Box<dyn Duplex>, ApiError> {
        let host = self.host();
        let failed = |why: &str| {
            ApiError::service_unavailable(format!(
                "error trying to reach service: dial tcp {host}:{}: {why}",
                self.port
            ))
        };
        let tls = self.tls.as_ref().map_err(|why| failed(why))?;
        let stream = core.cluster.connect(&host, self.port).await;
        let stream = stream.map_err(|error| failed(&error.message))?;
        let secured = outbound::secure(tls, stream, &host).await;
        secured.map_err(|error| failed(&error.to_string()))
    }

    /// Whether the slices of a namespace belong to its service.
    pub(super) fn owns_slice(&self, record: &coracle_store::Record) -> bool {
        let own = |(key, value): &(String, String)| key == "kubernetes.io/service-name" && *value == self.service;
        record.header.labels.iter().any(own)
    }

    /// Its service and the slices of that, as they are.
    pub(super) fn surroundings(&self, snapshot: &coracle_store::Snapshot) -> (Option<Value>, Vec<Value>) {
        let service = snapshot
            .get(&self.service_key())
            .and_then(|record| document::tree(record).ok());
        let prefix = self.slices_prefix();
        let slices = snapshot
            .range(&prefix, None)
            .filter(|record| self.owns_slice(record))
            .filter_map(|record| document::tree(record).ok());
        let slices = slices.collect();
        (service, slices)
    }
}
