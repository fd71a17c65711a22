//! The level `baseline`: what would let a pod out of its sandbox.

use coracle_api::object;
use serde_json::Value;

use super::{Violation, containers, named, which};

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
];
const SELINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

/// What a pod asks for beyond the level.
pub(super) fn check(pod: &Value) -> Vec<Violation> {
    let checks = [
        apparmor(pod),
        capabilities(pod),
        host_namespaces(pod),
        host_path(pod),
        host_ports(pod),
        privileged(pod),
        proc_mount(pod),
        seccomp(pod),
        selinux(pod),
        sysctls(pod),
        windows(pod),
    ];
    checks.into_iter().flatten().collect()
}

fn found(what: &'static str, details: String) -> Option<Violation> {
    Some(Violation { what, details })
}

fn apparmor(pod: &Value) -> Option<Violation> {
    let unconfined = |context: &Value| object::text(context, "securityContext.appArmorProfile.type") == "Unconfined";
    let wrong = which(pod, unconfined);
    let whole = unconfined(object::get(pod, "spec")?);
    if !whole && wrong.is_empty() {
        return None;
    }
    let who = if whole { "pod".to_owned() } else { named(&wrong) };
    found(
        "forbidden AppArmor profile",
        format!("{who} must not set AppArmor profile type to \"Unconfined\""),
    )
}

fn capabilities(pod: &Value) -> Option<Violation> {
    let mut more: Vec<&str> = Vec::new();
    for container in containers(pod) {
        let added = object::list(container, "securityContext.capabilities.add").iter();
        more.extend(
            added
                .filter_map(Value::as_str)
                .filter(|name| !CAPABILITIES.contains(name)),
        );
    }
    if more.is_empty() {
        return None;
    }
    more.sort_unstable();
    more.dedup();
    let wrong = which(pod, |container| {
        let added = object::list(container, "securityContext.capabilities.add").iter();
        added.filter_map(Value::as_str).any(|name| more.contains(&name))
    });
    let quoted: Vec<String> = more.iter().map(|name| format!("{name:?}")).collect();
    found(
        "non-default capabilities",
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&wrong),
            quoted.join(", ")
        ),
    )
}

fn host_namespaces(pod: &Value) -> Option<Violation> {
    let fields = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let set: Vec<String> = fields
        .filter(|field| object::truth(pod, &format!("spec.{field}")))
        .map(|field| format!("{field}=true"))
        .collect();
    if set.is_empty() {
        return None;
    }
    found("host namespaces", set.join(", "))
}

fn host_path(pod: &Value) -> Option<Violation> {
    let volumes = object::list(pod, "spec.volumes").iter();
    let names: Vec<String> = volumes
        .filter(|volume| object::get(volume, "hostPath").is_some())
        .map(|volume| format!("{:?}", object::text(volume, "name")))
        .collect();
    let word = match names.len() {
        0 => return None,
        1 => "volume",
        _ => "volumes",
    };
    found("hostPath volumes", format!("{word} {}", names.join(", ")))
}

fn host_ports(pod: &Value) -> Option<Violation> {
    let port = |port: &Value| object::integer(port, "hostPort").filter(|port| *port != 0);
    let wrong = which(pod, |container| {
        object::list(container, "ports").iter().any(|p| port(p).is_some())
    });
    if wrong.is_empty() {
        return None;
    }
    let mut ports: Vec<i64> = containers(pod)
        .flat_map(|container| object::list(container, "ports"))
        .filter_map(port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<String> = ports.iter().map(i64::to_string).collect();
    let verb = if wrong.len() == 1 { "uses" } else { "use" };
    let word = if ports.len() == 1 { "hostPort" } else { "hostPorts" };
    found(
        "hostPort",
        format!("{} {verb} {word} {}", named(&wrong), ports.join(", ")),
    )
}

fn privileged(pod: &Value) -> Option<Violation> {
    let wrong = which(pod, |container| object::truth(container, "securityContext.privileged"));
    if wrong.is_empty() {
        return None;
    }
    found(
        "privileged",
        format!("{} must not set securityContext.privileged=true", named(&wrong)),
    )
}

fn proc_mount(pod: &Value) -> Option<Violation> {
    let own = |container: &Value| !matches!(object::text(container, "securityContext.procMount"), "" | "Default");
    let wrong = which(pod, own);
    if wrong.is_empty() {
        return None;
    }
    found(
        "procMount",
        format!(
            "{} must not set securityContext.procMount to \"Unmasked\"",
            named(&wrong)
        ),
    )
}

fn seccomp(pod: &Value) -> Option<Violation> {
    let unconfined = |context: &Value| object::text(context, "securityContext.seccompProfile.type") == "Unconfined";
    let wrong = which(pod, unconfined);
    let whole = unconfined(object::get(pod, "spec")?);
    if !whole && wrong.is_empty() {
        return None;
    }
    let who = if whole { "pod".to_owned() } else { named(&wrong) };
    found(
        "seccompProfile",
        format!("{who} must not set securityContext.seccompProfile.type to \"Unconfined\""),
    )
}

fn selinux(pod: &Value) -> Option<Violation> {
    let contexts = containers(pod).chain(object::get(pod, "spec"));
    let (mut kinds, mut owned) = (Vec::new(), false);
    for context in contexts {
        let options = "securityContext.seLinuxOptions";
        let kind = object::text(context, &format!("{options}.type"));
        if !SELINUX_TYPES.contains(&kind) {
            kinds.push(format!("{kind:?}"));
        }
        owned |= !object::text(context, &format!("{options}.user")).is_empty()
            || !object::text(context, &format!("{options}.role")).is_empty();
    }
    if kinds.is_empty() && !owned {
        return None;
    }
    let mut details = Vec::new();
    if !kinds.is_empty() {
        details.push(format!("forbidden types {}", kinds.join(", ")));
    }
    if owned {
        details.push("user or role may not be set".to_owned());
    }
    found("seLinuxOptions", details.join("; "))
}

fn sysctls(pod: &Value) -> Option<Violation> {
    let set = object::list(pod, "spec.securityContext.sysctls").iter();
    let more: Vec<&str> = set
        .map(|sysctl| object::text(sysctl, "name"))
        .filter(|name| !SYSCTLS.contains(name))
        .collect();
    if more.is_empty() {
        return None;
    }
    found("forbidden sysctls", more.join(", "))
}

fn windows(pod: &Value) -> Option<Violation> {
    let host = |context: &Value| object::truth(context, "securityContext.windowsOptions.hostProcess");
    let wrong = which(pod, host);
    let whole = host(object::get(pod, "spec")?);
    if !whole && wrong.is_empty() {
        return None;
    }
    let who = if whole { "pod".to_owned() } else { named(&wrong) };
    found(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}
