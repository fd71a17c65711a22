//! One metric of an autoscaler: asked of the API that serves it, and turned into a proposal.
//!
//! Resource metrics come from `metrics.k8s.io`; metrics of pods and objects from `custom.metrics.k8s.io` and external ones
//! from `external.metrics.k8s.io`, which somebody has to add to the cluster. Where nobody has, that is what is told.

use std::{collections::HashMap, sync::Arc};

use coracle_api::{quantity::Quantity, selector::LabelSelector};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        autoscaling::v2::{
            ContainerResourceMetricStatus, ExternalMetricStatus, HorizontalPodAutoscaler, MetricIdentifier, MetricSpec,
            MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricSource, ObjectMetricStatus, PodsMetricStatus,
            ResourceMetricStatus,
        },
        core::v1::{Container, Pod},
    },
    apimachinery::pkg::api::resource::Quantity as Text,
};
use kube::core::Selector;
use serde_json::Value;

use super::{
    calculator::{self, Goal, Known, Proposal, Sample, Tolerance},
    target::{self, Scaled},
};
use crate::{ask::Ask, clock::after_seconds, driver::Turn, plan::Plan, pods, world::World};

/// How long after its start a pod's use of CPU may be that of starting, as in Kubernetes.
const STARTING_SECONDS: i64 = 300;
/// A pod that was never ready for longer than this after its start was not ready from the beginning, as in Kubernetes.
const READINESS_SECONDS: i64 = 30;
/// The window of a measurement that does not tell its own.
const WINDOW_SECONDS: i64 = 30;
const CUSTOM: &str = "/apis/custom.metrics.k8s.io/v1beta1";
const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// A metric that was read.
pub struct Measured {
    /// How many replicas it asks for.
    pub replicas: i32,
    /// What it is called in messages.
    pub name: String,
    /// What is told of it.
    pub status: MetricStatus,
}

/// A metric that could not be read.
pub struct Unknown {
    /// The reason, for conditions and events.
    pub reason: &'static str,
    /// The sentence.
    pub message: String,
}

/// Where a metric is measured.
pub struct Place<'a> {
    /// For whom.
    pub autoscaler: &'a HorizontalPodAutoscaler,
    /// Of what.
    pub scaled: &'a Scaled,
    /// How far it may be off.
    pub tolerance: Tolerance,
    /// The cluster.
    pub world: &'a World,
}

impl Place<'_> {
    fn namespace(&self) -> &str {
        self.autoscaler.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The pods of the target.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        let Ok(selector) = LabelSelector::parse(&self.scaled.selector) else {
            return Vec::new();
        };
        let label = |pod: &Pod| {
            let labels = pod.metadata.labels.clone().unwrap_or_default();
            selector.matches(|key| labels.get(key).map(String::as_str))
        };
        let mut pods = self.world.pods.in_namespace(self.namespace());
        pods.retain(|pod| label(pod));
        pods
    }

    fn ready(&self) -> usize {
        let pods = self.pods();
        pods.iter()
            .filter(|pod| pods::is_active(pod) && pods::is_ready(pod))
            .count()
    }
}

type Result<T> = std::result::Result<T, String>;

type Outcome = std::result::Result<Measured, Unknown>;

/// Measures one metric; nothing while it is being asked.
pub fn measure(metric: &MetricSpec, place: &Place<'_>, turn: &Turn<'_>, plan: &mut Plan) -> Option<Outcome> {
    let empty = MetricStatus {
        type_: metric.type_.clone(),
        ..MetricStatus::default()
    };
    if let Some(source) = &metric.resource {
        let found = resource(&source.name, None, &source.target, place, turn, plan)?;
        let what = format!("{} resource metric value", source.name);
        return Some(outcome(
            found,
            "FailedGetResourceMetric",
            &what,
            |(proposal, name, current)| {
                let resource = Some(ResourceMetricStatus {
                    name: source.name.clone(),
                    current,
                });
                (proposal, name, MetricStatus { resource, ..empty })
            },
        ));
    }
    if let Some(source) = &metric.container_resource {
        let found = resource(&source.name, Some(&source.container), &source.target, place, turn, plan)?;
        let what = format!("{} container metric value", source.name);
        return Some(outcome(
            found,
            "FailedGetContainerResourceMetric",
            &what,
            |(proposal, name, current)| {
                let container_resource = Some(ContainerResourceMetricStatus {
                    name: source.name.clone(),
                    container: source.container.clone(),
                    current,
                });
                (
                    proposal,
                    name,
                    MetricStatus {
                        container_resource,
                        ..empty
                    },
                )
            },
        ));
    }
    if let Some(source) = &metric.pods {
        let found = of_each_pod(&source.metric, &source.target, place, turn, plan)?;
        return Some(outcome(found, "FailedGetPodsMetric", "pods metric value", |proposal| {
            let pods = Some(PodsMetricStatus {
                metric: source.metric.clone(),
                current: each(&proposal),
            });
            let name = format!("pods metric {}", source.metric.name);
            (proposal, name, MetricStatus { pods, ..empty })
        }));
    }
    if let Some(source) = &metric.object {
        let found = of_object(source, place, turn, plan)?;
        return Some(outcome(
            found,
            "FailedGetObjectMetric",
            "object metric value",
            |proposal| {
                let object = Some(ObjectMetricStatus {
                    metric: source.metric.clone(),
                    described_object: source.described_object.clone(),
                    current: of_target(&source.target, &proposal),
                });
                let name = format!("{} metric {}", source.described_object.kind, source.metric.name);
                (proposal, name, MetricStatus { object, ..empty })
            },
        ));
    }
    if let Some(source) = &metric.external {
        let found = of_outside(&source.metric, &source.target, place, turn, plan)?;
        return Some(outcome(
            found,
            "FailedGetExternalMetric",
            "external metric value",
            |proposal| {
                let external = Some(ExternalMetricStatus {
                    metric: source.metric.clone(),
                    current: of_target(&source.target, &proposal),
                });
                let name = format!("external metric {}", source.metric.name);
                (proposal, name, MetricStatus { external, ..empty })
            },
        ));
    }
    Some(Err(Unknown {
        reason: "InvalidMetricSourceType",
        message: format!("unknown metric source type {:?}", metric.type_),
    }))
}

/// What was found, with its name and its status; or why nothing was.
fn outcome<T>(
    found: Result<T>,
    reason: &'static str,
    what: &str,
    told: impl FnOnce(T) -> (Proposal, String, MetricStatus),
) -> Outcome {
    match found.map(told) {
        Ok((proposal, name, status)) => Ok(Measured {
            replicas: proposal.replicas,
            name,
            status,
        }),
        Err(error) => Err(Unknown {
            reason,
            message: format!("failed to get {what}: {error}"),
        }),
    }
}

fn text(milli: i128) -> Text {
    Text(Quantity::from_milli(i64::try_from(milli).unwrap_or(i64::MAX)).to_string())
}

fn each(proposal: &Proposal) -> MetricValueStatus {
    MetricValueStatus {
        average_value: Some(text(proposal.each)),
        ..MetricValueStatus::default()
    }
}

fn of_target(target: &MetricTarget, proposal: &Proposal) -> MetricValueStatus {
    if target.average_value.is_some() {
        return each(proposal);
    }
    MetricValueStatus {
        value: Some(text(proposal.each)),
        ..MetricValueStatus::default()
    }
}

fn milli(text: Option<&Text>) -> Option<i128> {
    Some(Quantity::parse(&text?.0).ok()?.milli())
}

/// What pods use of a resource, by their names, with the end and the length of the measurement.
struct Use {
    milli: i128,
    at: Timestamp,
    window_seconds: i64,
}

type Found = (Proposal, String, MetricValueStatus);

fn resource(
    name: &str,
    container: Option<&str>,
    target: &MetricTarget,
    place: &Place<'_>,
    turn: &Turn<'_>,
    plan: &mut Plan,
) -> Option<Result<Found>> {
    let namespace = place.namespace();
    let selector = query(&place.scaled.selector);
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={selector}");
    let answer = turn.ask(Ask::get(path), plan)?;
    let (goal, what) = match (target.average_utilization, milli(target.average_value.as_ref())) {
        (Some(percent), _) => (Goal::Percent(percent), "utilization"),
        (None, Some(milli)) => (Goal::Each(milli), "usage"),
        (None, None) => {
            let text =
                "invalid resource metric source: neither an average utilization nor an average value target was set";
            return Some(Err(text.to_owned()));
        }
    };
    let proposed = match answer {
        Ok(list) => calculate(name, container, goal, &uses(list, name, container), place, turn.now),
        Err(failure) => Err(format!(
            "unable to get metrics for resource {name}: {}",
            failure.message
        )),
    };
    let label = if container.is_some() {
        "container resource"
    } else {
        "resource"
    };
    Some(match proposed {
        Err(error) => Err(format!("failed to get {name} {what}: {error}")),
        Ok(proposal) => {
            let mut current = each(&proposal);
            current.average_utilization = proposal.percent;
            let unit = match goal {
                Goal::Percent(_) => " utilization (percentage of request)",
                Goal::Each(_) => "",
            };
            Ok((proposal, format!("{name} {label}{unit}"), current))
        }
    })
}

fn uses(list: &Value, name: &str, container: Option<&str>) -> HashMap<String, Use> {
    let field = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let one = |item: &Value| {
        let all = item.get("containers")?.as_array()?.iter();
        let counted =
            all.filter(|c| container.is_none_or(|wanted| c.get("name").and_then(Value::as_str) == Some(wanted)));
        let amounts = counted.map(|c| Some(Quantity::parse(c.get("usage")?.get(name)?.as_str()?).ok()?.milli()));
        let amounts: Option<Vec<i128>> = amounts.collect();
        let amounts = amounts.filter(|amounts| !amounts.is_empty())?;
        let window: Option<jiff::SignedDuration> = field(item, "/window").and_then(|text| text.parse().ok());
        let measured = Use {
            milli: amounts.iter().sum(),
            at: field(item, "/timestamp")?.parse().ok()?,
            window_seconds: window.map_or(WINDOW_SECONDS, |window| window.as_secs()),
        };
        Some((field(item, "/metadata/name")?, measured))
    };
    list.get("items")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(one)
        .collect()
}

fn calculate(
    resource: &str,
    container: Option<&str>,
    goal: Goal,
    uses: &HashMap<String, Use>,
    place: &Place<'_>,
    now: Timestamp,
) -> Result<Proposal> {
    if uses.is_empty() {
        return Err(format!(
            "unable to get metrics for resource {resource}: no metrics returned from resource metrics API"
        ));
    }
    let pods = place.pods();
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let mut samples = Vec::new();
    for pod in pods
        .iter()
        .filter(|pod| !pods::is_terminating(pod) && pods::phase(pod) != "Failed")
    {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let known = match uses.get(name) {
            _ if pods::phase(pod) == "Pending" => Known::Unready,
            None => Known::Nothing,
            Some(measured) if resource == "cpu" && !tells(pod, measured, now) => Known::Unready,
            Some(measured) => Known::Uses(measured.milli),
        };
        let request = match goal {
            Goal::Percent(_) => request(pod, resource, container)?,
            Goal::Each(_) => 0,
        };
        samples.push(Sample { known, request });
    }
    let proposal = calculator::of_pods(place.scaled.replicas, &samples, goal, place.tolerance);
    proposal.ok_or_else(|| "did not receive metrics for targeted pods (pods might be unready)".to_owned())
}

/// Whether a measurement of CPU tells of the pod's work and not of its start.
fn tells(pod: &Pod, measured: &Use, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(ready), Some(started)) = (pods::condition(pod, "Ready"), started) else {
        return false;
    };
    let since = ready.last_transition_time.as_ref().map_or(started.0, |time| time.0);
    if after_seconds(started.0, STARTING_SECONDS) > now {
        ready.status != "False" && measured.at >= after_seconds(since, measured.window_seconds)
    } else {
        ready.status != "False" || since >= after_seconds(started.0, READINESS_SECONDS)
    }
}

/// What the pod's containers request together, in thousandths; each has to request something.
fn request(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i128> {
    let spec = pod.spec.as_ref();
    let sidecars = spec
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default()
        .iter()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let all = spec.into_iter().flat_map(|spec| &spec.containers).chain(sidecars);
    let counted = all.filter(|c| container.is_none_or(|wanted| c.name == wanted));
    let requested = |container: &Container| {
        let requests = container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref());
        milli(requests.and_then(|requests| requests.get(resource))).ok_or_else(|| {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            format!(
                "missing request for {resource} in container {} of Pod {pod}",
                container.name
            )
        })
    };
    counted.map(requested).sum()
}

fn query(selector: &str) -> String {
    form_urlencoded::byte_serialize(selector.as_bytes()).collect()
}

/// A metric's own selector, for a query.
fn own(metric: &MetricIdentifier) -> String {
    let selector = metric
        .selector
        .clone()
        .and_then(|selector| Selector::try_from(selector).ok());
    query(&selector.map(|selector| selector.to_string()).unwrap_or_default())
}

/// What the items of a list of metrics are worth, with the names of the objects that they describe.
fn values(list: &Value) -> Vec<(String, i128)> {
    let one = |item: &Value| {
        let name = item.pointer("/describedObject/name").and_then(Value::as_str);
        let value = Quantity::parse(item.get("value")?.as_str()?).ok()?;
        Some((name.unwrap_or_default().to_owned(), value.milli()))
    };
    list.get("items")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(one)
        .collect()
}

fn of_each_pod(
    metric: &MetricIdentifier,
    target: &MetricTarget,
    place: &Place<'_>,
    turn: &Turn<'_>,
    plan: &mut Plan,
) -> Option<Result<Proposal>> {
    let (namespace, name) = (place.namespace(), &metric.name);
    let (pods, own) = (query(&place.scaled.selector), own(metric));
    let path = format!("{CUSTOM}/namespaces/{namespace}/pods/*/{name}?labelSelector={pods}&metricLabelSelector={own}");
    let list = match turn.ask(Ask::get(path), plan)? {
        Ok(list) => list,
        Err(failure) => return Some(Err(format!("unable to get metric {name}: {}", failure.message))),
    };
    let at = |milli| Use {
        milli,
        at: turn.now,
        window_seconds: 0,
    };
    let uses: HashMap<String, Use> = values(list).into_iter().map(|(pod, milli)| (pod, at(milli))).collect();
    let goal = Goal::Each(milli(target.average_value.as_ref()).unwrap_or(0));
    Some(calculate(name, None, goal, &uses, place, turn.now))
}

fn of_object(
    source: &ObjectMetricSource,
    place: &Place<'_>,
    turn: &Turn<'_>,
    plan: &mut Plan,
) -> Option<Result<Proposal>> {
    let object = &source.described_object;
    let kind = match target::kind(object.api_version.as_deref().unwrap_or("v1"), &object.kind, turn, plan)? {
        Ok(kind) => kind,
        Err(error) => return Some(Err(error)),
    };
    let group = if kind.group.is_empty() {
        String::new()
    } else {
        format!(".{}", kind.group)
    };
    let (metric, own) = (&source.metric.name, own(&source.metric));
    let path = format!(
        "{CUSTOM}/namespaces/{}/{}{group}/{}/{metric}?metricLabelSelector={own}",
        place.namespace(),
        kind.plural,
        object.name
    );
    Some(match turn.ask(Ask::get(path), plan)? {
        Ok(list) => shared(&source.target, &values(list), metric, place),
        Err(failure) => Err(format!(
            "unable to get metric {metric}: {} on {} {}/{}",
            object.kind,
            place.namespace(),
            object.name,
            failure.message
        )),
    })
}

fn of_outside(
    metric: &MetricIdentifier,
    target: &MetricTarget,
    place: &Place<'_>,
    turn: &Turn<'_>,
    plan: &mut Plan,
) -> Option<Result<Proposal>> {
    let (namespace, name) = (place.namespace(), &metric.name);
    let path = format!("{EXTERNAL}/namespaces/{namespace}/{name}?labelSelector={}", own(metric));
    Some(match turn.ask(Ask::get(path), plan)? {
        Ok(list) => shared(target, &values(list), name, place),
        Err(failure) => Err(format!(
            "unable to get external metric {namespace}/{name}: {}",
            failure.message
        )),
    })
}

/// The proposal of a metric that is one number for all pods.
fn shared(target: &MetricTarget, values: &[(String, i128)], metric: &str, place: &Place<'_>) -> Result<Proposal> {
    if values.is_empty() {
        return Err(format!("no metrics returned for {metric}"));
    }
    let sum = values.iter().map(|(_, value)| value).sum();
    let aimed = milli(target.value.as_ref().or(target.average_value.as_ref()));
    let aimed = aimed.ok_or_else(|| "neither a value target nor an average value target was set".to_owned())?;
    let (size, split) = match target.value {
        Some(_) => (place.scaled.replicas, false),
        None => (place.scaled.present, true),
    };
    Ok(calculator::of_value(
        (size, place.ready()),
        sum,
        aimed,
        split,
        place.tolerance,
    ))
}
