//! Which routes belong to which listeners, what requests they lead where, and what is to be said of them. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};
use rustls::sign::CertifiedKey;

use super::compile::{self, Compiled};
use super::hostname::Hostname;
use super::objects::{
    AllowedRoutes, BackendRef, GROUP, Gateway, HttpRoute, Listener, Namespaces, ParentRef, ReferenceGrant,
};
use super::table::{self, Entry, Table};
use super::verdict::{Condition, ListenerVerdict, ParentVerdict};
use crate::ingress::{Port, Target};

/// Finds the certificate of a Secret, or says why there is none.
type FindCertificate<'a> = dyn Fn(&str, &str) -> Result<Arc<CertifiedKey>, String> + 'a;

/// Everything that is looked at.
pub struct World<'a> {
    /// The gateways of our classes, the oldest first.
    pub gateways: &'a [Arc<Gateway>],
    /// All routes, the oldest first.
    pub routes: &'a [Arc<HttpRoute>],
    /// All grants.
    pub grants: &'a [Arc<ReferenceGrant>],
    /// The labels of namespaces.
    pub namespaces: &'a Namespaces,
    /// Whether there is a service, by namespace and name, and whether it has a port.
    pub service: &'a dyn Fn(&str, &str, u16) -> Option<bool>,
    /// The certificate of a Secret, by namespace and name.
    pub certificate: &'a FindCertificate<'a>,
    /// Whether a port is listened on, with TLS or without.
    pub bound: &'a dyn Fn(u16, bool) -> Result<(), String>,
}

/// What follows from it.
#[derive(Debug)]
pub struct Plan {
    /// Where requests go.
    pub table: Table,
    /// What is said of each gateway, in their order.
    pub gateways: Vec<(Vec<Condition>, Vec<ListenerVerdict>)>,
    /// What is said of each route, in their order.
    pub routes: Vec<Vec<ParentVerdict>>,
}

/// A listener of a gateway while routes are attached.
struct Attaching<'a> {
    namespace: String,
    listener: &'a Listener,
    hostname: Hostname,
    verdict: ListenerVerdict,
    /// What it shows over TLS.
    certificate: Option<Arc<CertifiedKey>>,
    /// Whether requests are led by it.
    serves: bool,
    entries: Vec<Entry>,
}

impl World<'_> {
    /// Attaches all routes.
    pub fn plan(&self) -> Plan {
        let mut seen = Seen::default();
        let mut gateways: Vec<Vec<Attaching<'_>>> = Vec::new();
        for gateway in self.gateways {
            let listeners = gateway.spec.listeners.iter();
            gateways.push(
                listeners
                    .map(|listener| self.listener(gateway, listener, &mut seen))
                    .collect(),
            );
        }
        let routes = self
            .routes
            .iter()
            .map(|route| self.route(route, &mut gateways))
            .collect();
        let mut said = Vec::new();
        let mut serving = Vec::new();
        for listeners in gateways {
            said.push(gateway_verdict(&listeners));
            let verdicts = listeners.into_iter().map(|attaching| {
                let listener = table::Listener {
                    hostname: attaching.hostname,
                    certificate: attaching.certificate,
                    entries: attaching.entries,
                };
                if attaching.serves {
                    serving.push((attaching.listener.port, listener));
                }
                attaching.verdict
            });
            let verdicts: Vec<ListenerVerdict> = verdicts.collect();
            if let Some(said) = said.last_mut() {
                said.1 = verdicts;
            }
        }
        Plan {
            table: Table::new(serving),
            gateways: said,
            routes,
        }
    }

    fn listener<'l>(&self, gateway: &Gateway, listener: &'l Listener, seen: &mut Seen) -> Attaching<'l> {
        let namespace = gateway.namespace().unwrap_or_default();
        let hostname = Hostname::new(listener.hostname.as_deref());
        let secure = listener.protocol == "HTTPS";
        let accepted = if !secure && listener.protocol != "HTTP" {
            let message = format!("protocol {:?} is not served: use HTTP or HTTPS", listener.protocol);
            Condition::bad("Accepted", "UnsupportedProtocol", message)
        } else if listener
            .tls
            .as_ref()
            .is_some_and(|tls| tls.mode.as_deref() == Some("Passthrough"))
        {
            Condition::bad(
                "Accepted",
                "UnsupportedProtocol",
                "TLS is ended here: mode Passthrough is not served",
            )
        } else {
            match (self.bound)(listener.port, secure) {
                Ok(()) => Condition::good("Accepted", "Accepted"),
                Err(message) => Condition::bad("Accepted", "PortUnavailable", message),
            }
        };
        let conflicted = seen.conflict(listener.port, secure, &hostname);
        let takes_http = takes_http(listener.allowed_routes.as_ref());
        let (certificate, resolved) = self.resolve(&namespace, listener, secure, takes_http);
        let certified = !secure || certificate.is_some();
        let serves = accepted.holds && conflicted.is_none() && certified;
        let programmed = match serves {
            true => Condition::good("Programmed", "Programmed"),
            false => Condition::bad("Programmed", "Invalid", "another condition says why"),
        };
        let conflicted = match conflicted {
            Some((reason, message)) => Condition {
                holds: true,
                ..Condition::bad("Conflicted", reason, message)
            },
            None => Condition::bad("Conflicted", "NoConflicts", ""),
        };
        Attaching {
            namespace,
            listener,
            hostname,
            verdict: ListenerVerdict {
                name: listener.name.clone(),
                takes_http: takes_http.0,
                attached: 0,
                conditions: vec![accepted, programmed, resolved, conflicted],
            },
            certificate,
            serves,
            entries: Vec::new(),
        }
    }

    /// The certificate of a listener, and whether all that it refers to is there.
    fn resolve(
        &self,
        namespace: &str,
        listener: &Listener,
        secure: bool,
        (_, known): (bool, bool),
    ) -> (Option<Arc<CertifiedKey>>, Condition) {
        let bad = |reason, message: String| Condition::bad("ResolvedRefs", reason, message);
        let mut condition = match known {
            true => Condition::good("ResolvedRefs", "ResolvedRefs"),
            false => bad(
                "InvalidRouteKinds",
                "only routes of kind HTTPRoute are served".to_owned(),
            ),
        };
        let mut certificate = None;
        let refs = listener.tls.iter().flat_map(|tls| &tls.certificate_refs);
        for reference in refs.clone().filter(|_| secure) {
            let of = reference.namespace.as_deref().unwrap_or(namespace);
            let (group, kind) = (
                reference.group.as_deref().unwrap_or_default(),
                reference.kind.as_deref().unwrap_or("Secret"),
            );
            if !group.is_empty() || kind != "Secret" {
                condition = bad(
                    "InvalidCertificateRef",
                    format!("{kind} {:?} is no Secret", reference.name),
                );
            } else if of != namespace && !self.granted("Gateway", namespace, "Secret", of, &reference.name) {
                let message = format!(
                    "no ReferenceGrant of namespace {of} lets gateways of {namespace} use Secret {:?}",
                    reference.name
                );
                condition = bad("RefNotPermitted", message);
            } else {
                match (self.certificate)(of, &reference.name) {
                    Ok(found) => certificate = certificate.or(Some(found)),
                    Err(message) => condition = bad("InvalidCertificateRef", message),
                }
            }
        }
        if secure && refs.count() == 0 {
            condition = bad(
                "InvalidCertificateRef",
                "a listener for HTTPS names no Secret with a certificate".to_owned(),
            );
        }
        (certificate, condition)
    }

    /// Whether a grant lets `kind` of the namespace `from` refer to an object.
    fn granted(&self, kind: &str, from: &str, to_kind: &str, to: &str, name: &str) -> bool {
        self.grants.iter().any(|grant| {
            let spec = &grant.spec;
            let who = spec
                .from
                .iter()
                .any(|who| who.group == GROUP && who.kind == kind && who.namespace == from);
            let what = spec.to.iter().any(|what| {
                what.group.is_empty()
                    && what.kind == to_kind
                    && what
                        .name
                        .as_deref()
                        .is_none_or(|named| named.is_empty() || named == name)
            });
            grant.namespace().as_deref() == Some(to) && who && what
        })
    }

    fn route(&self, route: &HttpRoute, gateways: &mut [Vec<Attaching<'_>>]) -> Vec<ParentVerdict> {
        let namespace = route.namespace().unwrap_or_default();
        let (rules, resolved) = self.compiled(&namespace, route);
        let mut verdicts = Vec::new();
        for parent in &route.spec.parent_refs {
            let Some(at) = self.gateway_of(&namespace, parent) else {
                continue;
            };
            let Some(listeners) = gateways.get_mut(at) else {
                continue;
            };
            let accepted = match &rules {
                Err(message) => Condition::bad("Accepted", "UnsupportedValue", message.clone()),
                Ok(rules) => self.attach(&namespace, route, parent, listeners, rules),
            };
            verdicts.push(ParentVerdict {
                parent: parent.clone(),
                conditions: vec![accepted, resolved.clone()],
            });
        }
        verdicts
    }

    /// The place of the gateway that a route means by a parent, if it is one of ours.
    fn gateway_of(&self, namespace: &str, parent: &ParentRef) -> Option<usize> {
        let group = parent.group.as_deref().unwrap_or(GROUP);
        let kind = parent.kind.as_deref().unwrap_or("Gateway");
        let namespace = parent.namespace.as_deref().unwrap_or(namespace);
        self.gateways.iter().position(|gateway| {
            group == GROUP
                && kind == "Gateway"
                && gateway.name_any() == parent.name
                && gateway.namespace().as_deref() == Some(namespace)
        })
    }

    /// Attaches a route to the listeners of a gateway that it means and that take it.
    fn attach(
        &self,
        namespace: &str,
        route: &HttpRoute,
        parent: &ParentRef,
        listeners: &mut [Attaching<'_>],
        rules: &[Compiled],
    ) -> Condition {
        let bad = |reason, message: &str| Condition::bad("Accepted", reason, message);
        let meant = |attaching: &&mut Attaching<'_>| {
            parent
                .section_name
                .as_ref()
                .is_none_or(|name| *name == attaching.listener.name)
                && parent.port.is_none_or(|port| port == attaching.listener.port)
        };
        let mut outcome = bad("NoMatchingParent", "the gateway has no such listener");
        for attaching in listeners.iter_mut().filter(meant) {
            if !self.allows(attaching, namespace) {
                if outcome.reason == "NoMatchingParent" {
                    outcome = bad(
                        "NotAllowedByListeners",
                        "no listener allows routes of this kind and namespace",
                    );
                }
                continue;
            }
            let hosts = hosts(route, &attaching.hostname);
            if hosts.is_empty() {
                if !outcome.holds {
                    outcome = bad("NoMatchingListenerHostname", "no listener has a hostname of the route");
                }
                continue;
            }
            outcome = Condition::good("Accepted", "Accepted");
            attaching.verdict.attached += 1;
            for host in &hosts {
                attaching
                    .entries
                    .extend(rules.iter().flat_map(|rule| entries(host, rule)));
            }
        }
        outcome
    }

    fn allows(&self, attaching: &Attaching<'_>, namespace: &str) -> bool {
        let allowed = attaching.listener.allowed_routes.as_ref();
        let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
        let from = namespaces
            .and_then(|namespaces| namespaces.from.as_deref())
            .unwrap_or("Same");
        let by_label = || {
            let selector = namespaces?.selector.clone()?;
            let selector: LabelSelector = serde_json::from_value(selector).ok()?;
            let selector = Selector::try_from(selector).ok()?;
            Some(selector.matches(self.namespaces.get(namespace)?))
        };
        let of_namespace = match from {
            "All" => true,
            "Selector" => by_label().unwrap_or(false),
            "None" => false,
            _ => attaching.namespace == namespace,
        };
        of_namespace && attaching.verdict.takes_http
    }

    /// The rules of a route, and whether its backends are there.
    fn compiled(&self, namespace: &str, route: &HttpRoute) -> (Result<Vec<Compiled>, String>, Condition) {
        let mut resolved = Condition::good("ResolvedRefs", "ResolvedRefs");
        let mut target = |backend: &BackendRef| match self.target(namespace, backend) {
            Ok(target) => Some(target),
            Err((reason, message)) => {
                resolved = Condition::bad("ResolvedRefs", reason, message);
                None
            }
        };
        let rules = route
            .spec
            .rules
            .iter()
            .map(|rule| compile::rule(rule, &mut target))
            .collect();
        (rules, resolved)
    }

    fn target(&self, namespace: &str, backend: &BackendRef) -> Result<Arc<Target>, (&'static str, String)> {
        let name = &backend.name;
        let of = backend.namespace.as_deref().unwrap_or(namespace);
        let kind = backend.kind.as_deref().unwrap_or("Service");
        if !backend.group.as_deref().unwrap_or_default().is_empty() || kind != "Service" {
            return Err(("InvalidKind", format!("{kind} {name:?} is no Service")));
        }
        if of != namespace && !self.granted("HTTPRoute", namespace, "Service", of, name) {
            let message =
                format!("no ReferenceGrant of namespace {of} lets routes of {namespace} use Service {name:?}");
            return Err(("RefNotPermitted", message));
        }
        let Some(port) = backend.port else {
            return Err(("BackendNotFound", format!("no port of Service {name:?} is named")));
        };
        match (self.service)(of, name, port) {
            None => Err((
                "BackendNotFound",
                format!("there is no Service {name:?} in namespace {of}"),
            )),
            Some(false) => Err(("BackendNotFound", format!("Service {name:?} has no port {port}"))),
            Some(true) => Ok(Arc::new(Target {
                namespace: of.to_owned(),
                service: name.clone(),
                port: Port::Number(port),
            })),
        }
    }
}

/// What ports and hosts earlier listeners have taken.
#[derive(Default)]
struct Seen(HashMap<u16, (bool, Vec<Hostname>)>);

impl Seen {
    /// Why a listener cannot be beside those before it, if so.
    fn conflict(&mut self, port: u16, secure: bool, hostname: &Hostname) -> Option<(&'static str, String)> {
        let (before, hosts) = self.0.entry(port).or_insert((secure, Vec::new()));
        if *before != secure {
            return Some((
                "ProtocolConflict",
                format!("another listener speaks another protocol at port {port}"),
            ));
        }
        if hosts.contains(hostname) {
            return Some((
                "HostnameConflict",
                format!("another listener has this hostname at port {port}"),
            ));
        }
        hosts.push(hostname.clone());
        None
    }
}

/// Whether HTTPRoutes are taken, and whether all kinds that are named are known.
fn takes_http(allowed: Option<&AllowedRoutes>) -> (bool, bool) {
    let kinds = allowed.map_or(&[][..], |allowed| &allowed.kinds);
    let mut known = kinds
        .iter()
        .map(|kind| kind.group.as_deref().unwrap_or(GROUP) == GROUP && kind.kind == "HTTPRoute");
    (
        kinds.is_empty() || known.clone().any(|known| known),
        known.all(|known| known),
    )
}

fn gateway_verdict(listeners: &[Attaching<'_>]) -> (Vec<Condition>, Vec<ListenerVerdict>) {
    let serving = listeners.iter().filter(|attaching| attaching.serves).count();
    let accepted = match serving == listeners.len() {
        true => Condition::good("Accepted", "Accepted"),
        // With a listener that works the gateway is accepted all the same.
        false => Condition {
            holds: serving > 0,
            ..Condition::bad(
                "Accepted",
                "ListenersNotValid",
                "the conditions of the listeners say why",
            )
        },
    };
    let programmed = match serving > 0 {
        true => Condition::good("Programmed", "Programmed"),
        false => Condition::bad("Programmed", "Invalid", "no listener is served"),
    };
    (vec![accepted, programmed], Vec::new())
}

/// The hosts that a route and a listener share.
fn hosts(route: &HttpRoute, listener: &Hostname) -> Vec<Hostname> {
    if route.spec.hostnames.is_empty() {
        return vec![listener.clone()];
    }
    let hosts = route.spec.hostnames.iter();
    hosts
        .filter_map(|host| Hostname::new(Some(host)).and(listener))
        .collect()
}

fn entries<'a>(host: &'a Hostname, compiled: &'a Compiled) -> impl Iterator<Item = Entry> + 'a {
    compiled.conditions.iter().map(|condition| Entry {
        hostname: host.clone(),
        condition: condition.clone(),
        rule: compiled.rule.clone(),
    })
}

#[cfg(test)]
mod tests;
