//! The rows of the core group.

use super::{Body, CHANGE, CREATE, Kind, NO_COLLECTION, NameRule, Propagation, READ, Strategy};
use crate::{defaults, prepare, table, validate};

const GET: &[&str] = &["get"];
const CONNECT: &[&str] = &["create", "get"];
const UPDATE: &[&str] = &["update"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

fn row(kind: &'static str, plural: &'static str, go_type: &'static str) -> Kind {
    Kind::new("", "v1", kind, plural, go_type)
}

/// The kinds of `v1`.
pub fn kinds() -> Vec<Kind> {
    vec![
        namespace(),
        node(),
        pod(),
        service(),
        endpoints(),
        config_map(),
        secret(),
        service_account(),
        event(),
        limit_range(),
        persistent_volume(),
        persistent_volume_claim(),
        pod_template(),
        replication_controller(),
        resource_quota(),
        binding(),
        component_status(),
    ]
}

/// The parts of the control plane; made when it is read.
fn component_status() -> Kind {
    row(
        "ComponentStatus",
        "componentstatuses",
        "k8s.io/api/core/v1.ComponentStatus",
    )
    .cluster()
    .short(&["cs"])
    .with_verbs(READ)
    .printed(table::core::COMPONENT_STATUS, table::core::component_status)
    .deprecated("v1 ComponentStatus is deprecated in v1.19+")
}

/// A pod gets its node by a collection of its own, as old schedulers do it, or by the pod's `binding`.
fn binding() -> Kind {
    row("Binding", "bindings", "k8s.io/api/core/v1.Binding").with_verbs(CREATE)
}

fn limit_range() -> Kind {
    row("LimitRange", "limitranges", "k8s.io/api/core/v1.LimitRange")
        .short(&["limits"])
        .created_on_update()
        .with(Strategy {
            default: defaults::quota::limit_range,
            validate: validate::quota::limit_range,
            ..Strategy::NONE
        })
}

fn resource_quota() -> Kind {
    row("ResourceQuota", "resourcequotas", "k8s.io/api/core/v1.ResourceQuota")
        .short(&["quota"])
        .with_status()
        .printed(table::core::RESOURCE_QUOTA, table::core::resource_quota)
        .with(Strategy {
            validate: validate::quota::resource_quota,
            validate_update: validate::quota::resource_quota_update,
            ..Strategy::NONE
        })
        .with(Strategy { ..Strategy::NONE })
}

fn persistent_volume() -> Kind {
    row(
        "PersistentVolume",
        "persistentvolumes",
        "k8s.io/api/core/v1.PersistentVolume",
    )
    .cluster()
    .short(&["pv"])
    .with_status()
    .selectable_as("name", &["metadata.name"], "")
    .printed(table::storage::PERSISTENT_VOLUME, table::storage::persistent_volume)
    .with(Strategy {
        default: defaults::storage::persistent_volume,
        prepare_create: prepare::storage::create_persistent_volume,
        ..Strategy::NONE
    })
}

fn persistent_volume_claim() -> Kind {
    row(
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "k8s.io/api/core/v1.PersistentVolumeClaim",
    )
    .short(&["pvc"])
    .with_status()
    .selectable_as("name", &["metadata.name"], "")
    .printed(table::storage::CLAIM, table::storage::claim)
    .with(Strategy {
        default: defaults::storage::claim,
        validate: validate::storage::claim,
        validate_update: validate::storage::claim_update,
        prepare_create: prepare::storage::create_claim,
        ..Strategy::NONE
    })
}

fn pod_template() -> Kind {
    row("PodTemplate", "podtemplates", "k8s.io/api/core/v1.PodTemplate")
        .with_generation()
        .printed(table::apps::POD_TEMPLATE, table::apps::pod_template)
        .with(Strategy {
            default: defaults::apps::pod_template,
            validate: validate::apps::pod_template,
            ..Strategy::NONE
        })
}

fn replication_controller() -> Kind {
    let go_type = "k8s.io/api/core/v1.ReplicationController";
    let mut controller = row("ReplicationController", "replicationcontrollers", go_type)
        .short(&["rc"])
        .in_all()
        .with_status()
        .with_scale()
        .with_generation()
        .selectable_as("status.replicas", &["status.replicas"], "0")
        .printed(table::apps::REPLICA_SET, table::apps::replication_controller)
        .with(Strategy {
            default: defaults::apps::replication_controller,
            validate: validate::apps::replication_controller,
            ..Strategy::NONE
        });
    controller.propagation = Propagation::Orphan;
    controller
}

fn namespace() -> Kind {
    row("Namespace", "namespaces", "k8s.io/api/core/v1.Namespace")
        .cluster()
        .short(&["ns"])
        .with_verbs(NO_COLLECTION)
        .with_status()
        .sub("finalize", UPDATE)
        .selectable_by(&["status.phase"])
        .printed(table::core::NAMESPACE, table::core::namespace)
        .with(Strategy {
            name: NameRule::Label,
            default: defaults::core::namespace,
            validate: validate::core::namespace,
            prepare_create: prepare::create_namespace,
            prepare_update: prepare::update_namespace,
            ..Strategy::NONE
        })
}

fn node() -> Kind {
    let mut node = row("Node", "nodes", "k8s.io/api/core/v1.Node")
        .cluster()
        .short(&["no"])
        .sub_of("proxy", PROXY, proxy_options("NodeProxyOptions"))
        .with_status()
        .selectable_as("spec.unschedulable", &["spec.unschedulable"], "false")
        .printed(table::node::COLUMNS, table::node::cells)
        .with(Strategy {
            default: defaults::core::node,
            validate: validate::node::node,
            validate_update: validate::node::update,
            ..Strategy::NONE
        });
    node.status_on_create = true;
    node
}

fn pod() -> Kind {
    let mut pod = row("Pod", "pods", "k8s.io/api/core/v1.Pod")
        .short(&["po"])
        .in_all()
        .with_status()
        .sub_of(
            "binding",
            CREATE,
            Body::new("", "v1", "Binding", "k8s.io/api/core/v1.Binding"),
        )
        .sub_of(
            "eviction",
            CREATE,
            Body::new("policy", "v1", "Eviction", "k8s.io/api/policy/v1.Eviction"),
        )
        .sub_of(
            "attach",
            CONNECT,
            Body::new("", "v1", "PodAttachOptions", "k8s.io/api/core/v1.PodAttachOptions"),
        )
        .sub_of(
            "exec",
            CONNECT,
            Body::new("", "v1", "PodExecOptions", "k8s.io/api/core/v1.PodExecOptions"),
        )
        .sub("log", GET)
        .sub_of(
            "portforward",
            CONNECT,
            Body::new(
                "",
                "v1",
                "PodPortForwardOptions",
                "k8s.io/api/core/v1.PodPortForwardOptions",
            ),
        )
        .sub_of("proxy", PROXY, proxy_options("PodProxyOptions"))
        .sub("ephemeralcontainers", CHANGE)
        .sub("resize", CHANGE)
        .selectable_by(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
        ])
        .selectable_as("spec.hostNetwork", &["spec.hostNetwork"], "false")
        .selectable_by(&[
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ])
        .with_generation()
        .printed(table::pod::COLUMNS, table::pod::cells)
        .with(Strategy {
            default: defaults::pod::pod,
            validate: validate::pod::pod,
            validate_update: validate::pod_update::update,
            prepare_create: prepare::create_pod,
            ..Strategy::NONE
        });
    pod.graceful = true;
    pod
}

fn proxy_options(kind: &'static str) -> Body {
    let go_type = match kind {
        "PodProxyOptions" => "k8s.io/api/core/v1.PodProxyOptions",
        "ServiceProxyOptions" => "k8s.io/api/core/v1.ServiceProxyOptions",
        _ => "k8s.io/api/core/v1.NodeProxyOptions",
    };
    Body::new("", "v1", kind, go_type)
}

fn service() -> Kind {
    row("Service", "services", "k8s.io/api/core/v1.Service")
        .short(&["svc"])
        .in_all()
        .sub_of("proxy", PROXY, proxy_options("ServiceProxyOptions"))
        .with_status()
        .selectable_by(&["spec.clusterIP", "spec.type"])
        .created_on_update()
        .printed(table::service::SERVICE, table::service::service)
        .with(Strategy {
            name: NameRule::ServiceName,
            default: defaults::service::service,
            validate: validate::service::service,
            validate_update: validate::service::update,
            prepare_create: prepare::create_service,
            prepare_update: prepare::update_service,
            ..Strategy::NONE
        })
}

fn endpoints() -> Kind {
    row("Endpoints", "endpoints", "k8s.io/api/core/v1.Endpoints")
        .short(&["ep"])
        .deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        .created_on_update()
        .printed(table::service::ENDPOINTS, table::service::endpoints)
        .with(Strategy {
            default: defaults::service::endpoints,
            validate: validate::endpoints::endpoints,
            ..Strategy::NONE
        })
}

fn config_map() -> Kind {
    row("ConfigMap", "configmaps", "k8s.io/api/core/v1.ConfigMap")
        .short(&["cm"])
        .printed(table::core::CONFIG_MAP, table::core::config_map)
        .with(Strategy {
            validate: validate::config::config_map,
            validate_update: validate::config::config_map_update,
            ..Strategy::NONE
        })
}

fn secret() -> Kind {
    row("Secret", "secrets", "k8s.io/api/core/v1.Secret")
        .selectable_by(&["type"])
        .printed(table::core::SECRET, table::core::secret)
        .with(Strategy {
            default: defaults::core::secret,
            validate: validate::config::secret,
            validate_update: validate::config::secret_update,
            ..Strategy::NONE
        })
}

fn service_account() -> Kind {
    row("ServiceAccount", "serviceaccounts", "k8s.io/api/core/v1.ServiceAccount")
        .short(&["sa"])
        .sub_of(
            "token",
            CREATE,
            Body::new(
                "authentication.k8s.io",
                "v1",
                "TokenRequest",
                "k8s.io/api/authentication/v1.TokenRequest",
            ),
        )
        .printed(table::core::SERVICE_ACCOUNT, table::core::service_account)
}

fn event() -> Kind {
    row("Event", "events", "k8s.io/api/core/v1.Event")
        .short(&["ev"])
        .selectable_by(&[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
        ])
        .selectable_as("reportingComponent", &["reportingComponent", "source.component"], "")
        .selectable_as("source", &["source.component", "reportingComponent"], "")
        .selectable_by(&["type"])
        .created_on_update()
        .printed(table::event::COLUMNS, table::event::cells)
        .with(Strategy {
            validate: validate::core::event,
            ..Strategy::NONE
        })
}
