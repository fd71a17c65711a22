//! Pods that have all their TCP traffic go through one of their containers, as service meshes want it; see
//! docs/networking.md. Pure.

use coracle_net::Redirect;
use k8s_openapi::api::core::v1::Pod;

/// Names the container through which the traffic goes.
const CONTAINER: &str = "coracle.dev/sidecar";
/// The port at which it takes what the pod's other containers connect to; absent means that those go their own way.
const OUTBOUND: &str = "coracle.dev/sidecar-outbound-port";
/// The port at which it takes what others connect to; absent means that these come in directly.
const INBOUND: &str = "coracle.dev/sidecar-inbound-port";

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Where a pod's traffic goes first; none where the pod says nothing of it.
pub fn redirect(pod: &Pod) -> Option<Redirect> {
    annotation(pod, CONTAINER)?;
    let port = |key| {
        annotation(pod, key)
            .and_then(|port| port.parse().ok())
            .filter(|port| *port != 0)
    };
    Some(Redirect {
        outbound: port(OUTBOUND),
        inbound: port(INBOUND),
    })
}

/// Whether a container is the sidecar.
pub fn is(pod: &Pod, container: &str) -> bool {
    annotation(pod, CONTAINER) == Some(container)
}

/// Why what a pod says of its sidecar cannot be done, so that no container starts unguarded.
pub fn problem(pod: &Pod) -> Option<String> {
    let name = annotation(pod, CONTAINER)?;
    let mut containers = crate::spec::containers(pod);
    if !containers.any(|container| container.name == name) {
        return Some(format!("annotation {CONTAINER}: the pod has no container {name:?}"));
    }
    let keys = [OUTBOUND, INBOUND];
    let wrong = keys.iter().find_map(|key| {
        let port = annotation(pod, key)?;
        let good = port.parse::<u16>().is_ok_and(|port| port != 0);
        (!good).then(|| format!("annotation {key}: {port:?} is no port: use a number from 1 to 65535"))
    });
    let none = || {
        let said = keys.iter().any(|key| annotation(pod, key).is_some());
        (!said).then(|| format!("annotation {CONTAINER} needs {OUTBOUND} or {INBOUND} beside it"))
    };
    wrong.or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(annotations: &[(&str, &str)]) -> Pod {
        let annotations: serde_json::Map<_, _> = annotations
            .iter()
            .map(|(key, value)| (format!("coracle.dev/sidecar{key}"), json!(value)))
            .collect();
        serde_json::from_value(json!({"metadata": {"annotations": annotations}, "spec": {
            "initContainers": [{"name": "proxy", "restartPolicy": "Always"}], "containers": [{"name": "app"}]}}))
        .unwrap()
    }

    #[test]
    fn the_annotations_say_where_traffic_goes() {
        assert_eq!((redirect(&pod(&[])), problem(&pod(&[]))), (None, None));
        let both = pod(&[("", "proxy"), ("-outbound-port", "15001"), ("-inbound-port", "15006")]);
        let wanted = Redirect {
            outbound: Some(15001),
            inbound: Some(15006),
        };
        assert_eq!((redirect(&both), problem(&both)), (Some(wanted), None));
        assert!(is(&both, "proxy") && !is(&both, "app"));
        for (annotations, says) in [
            (vec![("", "other"), ("-inbound-port", "1")], "no container \"other\""),
            (vec![("", "app"), ("-inbound-port", "0")], "\"0\" is no port"),
            (vec![("", "app"), ("-outbound-port", "http")], "\"http\" is no port"),
            (vec![("", "app")], "needs coracle.dev/sidecar-outbound-port or"),
        ] {
            let problem = problem(&pod(&annotations)).unwrap();
            assert!(problem.contains(says), "{problem}");
        }
    }
}
