//! What must hold of HorizontalPodAutoscalers: they ask for nothing outside of their bounds, and in the end for what the load needs.

use serde_json::Value;

use crate::{
    laws::{is_deleting, millicpu, number, sharing, text},
    ledger::{Change, Objects},
    load::Loads,
};

/// How far the use may be from what is wanted before something is done, in hundredths: as in Kubernetes.
const TOLERANCE: i64 = 10;

/// What it wants of its target is within its bounds, or nothing where somebody has turned the target off.
pub fn judge(change: &Change<'_>) -> Result<(), String> {
    let Some(autoscaler) = change.after else {
        return Ok(());
    };
    let wanted = number(autoscaler, "/status/desiredReplicas");
    let (least, most) = bounds(autoscaler);
    match wanted == 0 || (least..=most).contains(&wanted) {
        true => Ok(()),
        false => Err(format!("{} wants {wanted} replicas, of {least} to {most}", change.key)),
    }
}

fn bounds(autoscaler: &Value) -> (i64, i64) {
    let of = |name: &str| number(autoscaler, &format!("/spec/{name}"));
    (of("minReplicas"), of("maxReplicas"))
}

/// What is still missing of one whose target is there and has all its pods.
pub fn settled(autoscaler: &Value, objects: &Objects, loads: &Loads) -> Result<(), String> {
    let (namespace, app) = (
        text(autoscaler, "/metadata/namespace"),
        text(autoscaler, "/spec/scaleTargetRef/name"),
    );
    let Some(target) = objects.get(&format!("deployments.apps/{namespace}/{app}")) else {
        return Ok(());
    };
    let is = number(target, "/spec/replicas");
    if is == 0 {
        return Ok(());
    }
    let sharing: Vec<&Value> = sharing(namespace, app, objects)
        .filter(|pod| !is_deleting(pod))
        .collect();
    let count = sharing.len() as i64;
    let requests: i64 = sharing.iter().map(|pod| millicpu(pod)).sum();
    let used = loads.each(namespace, app, count) * count;
    let percent = used * 100 / requests.max(1);
    let goal = number(autoscaler, "/spec/metrics/0/resource/target/averageUtilization");
    let wanted = match (percent * 100 - goal * 100).abs() <= TOLERANCE * goal {
        true => is,
        // Rounded up.
        false => (percent * count + goal - 1) / goal,
    };
    let (least, most) = bounds(autoscaler);
    match wanted.clamp(least, most) {
        wanted if wanted == is => Ok(()),
        wanted => Err(format!(
            "{app} has {is} replicas at {percent} % of its requests, and should have {wanted}"
        )),
    }
}
