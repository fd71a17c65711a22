//! What must hold of claims and volumes: what is bound stays bound to each other, and pods go where their volumes are.

use serde_json::Value;

use crate::{
    laws::{of, text},
    ledger::{Change, Objects},
};

/// A claim keeps its volume and has it alone.
pub fn judge_claim(change: &Change<'_>, objects: &Objects) -> Result<(), String> {
    let name = |claim: Option<&Value>| claim.map_or("", |claim| text(claim, "/spec/volumeName")).to_owned();
    let (was, is) = (name(change.before.as_ref()), name(change.after));
    let Some(claim) = change.after.filter(|_| was != is) else {
        return Ok(());
    };
    let same = change.before.as_ref().map(|before| text(before, "/metadata/uid")) == Some(text(claim, "/metadata/uid"));
    if !was.is_empty() && same {
        return Err(format!("{} had the volume {was} and has {is:?}", change.key));
    }
    let mut others = of("persistentvolumeclaims", objects).filter(|(key, _)| *key != change.key);
    match others.find(|(_, other)| text(other, "/spec/volumeName") == is) {
        Some((other, _)) if !is.is_empty() => Err(format!("{} has the volume of {other}", change.key)),
        _ => Ok(()),
    }
}

/// A volume is never given to another claim.
pub fn judge_volume(change: &Change<'_>) -> Result<(), String> {
    let claim = |volume: Option<&Value>| {
        volume
            .map_or("", |volume| text(volume, "/spec/claimRef/uid"))
            .to_owned()
    };
    let (was, is) = (claim(change.before.as_ref()), claim(change.after));
    match change.after.is_some() && !was.is_empty() && was != is {
        true => Err(format!("{} was for the claim {was} and is for {is:?}", change.key)),
        false => Ok(()),
    }
}

/// A pod is bound to a node on which its volumes are.
pub fn judge_pod(change: &Change<'_>, pod: &Value, objects: &Objects) -> Result<(), String> {
    let node = text(pod, "/spec/nodeName");
    let was = change
        .before
        .as_ref()
        .map_or("", |before| text(before, "/spec/nodeName"));
    if node.is_empty() || was == node {
        return Ok(());
    }
    match home(pod, objects).find(|home| *home != node) {
        Some(home) => Err(format!(
            "{} was bound to {node}, and its volume is on {home}",
            change.key
        )),
        None => Ok(()),
    }
}

/// The nodes that hold the volumes of the pod's claims.
pub fn home<'a>(pod: &'a Value, objects: &'a Objects) -> impl Iterator<Item = &'a str> {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let claims = volumes
        .into_iter()
        .flatten()
        .map(|volume| text(volume, "/persistentVolumeClaim/claimName"));
    claims.filter_map(|name| {
        let namespace = text(pod, "/metadata/namespace");
        let claim = objects.get(&format!("persistentvolumeclaims/{namespace}/{name}"))?;
        let volume = objects.get(&format!("persistentvolumes//{}", text(claim, "/spec/volumeName")))?;
        let host = "/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/values/0";
        volume.pointer(host).and_then(Value::as_str)
    })
}

/// What is still missing of a claim.
pub fn claim_settled(claim: &Value, objects: &Objects) -> Result<(), String> {
    let name = text(claim, "/spec/volumeName");
    if name.is_empty() {
        return Ok(());
    }
    let Some(volume) = objects.get(&format!("persistentvolumes//{name}")) else {
        return Err(format!("its volume {name} is not there"));
    };
    if text(volume, "/spec/claimRef/uid") != text(claim, "/metadata/uid") {
        return Err(format!("its volume {name} is another claim's"));
    }
    match (text(claim, "/status/phase"), text(volume, "/status/phase")) {
        ("Bound", "Bound") => Ok(()),
        (claim, volume) => Err(format!("it is {claim} and its volume {volume}")),
    }
}

/// What is still missing of a volume: those that are made for claims go with them.
pub fn volume_settled(volume: &Value, objects: &Objects) -> Result<(), String> {
    let uid = text(volume, "/spec/claimRef/uid");
    let mut claims = of("persistentvolumeclaims", objects);
    match claims.any(|(_, claim)| text(claim, "/metadata/uid") == uid) {
        true => Ok(()),
        false => Err("it outlives its claim".to_owned()),
    }
}
