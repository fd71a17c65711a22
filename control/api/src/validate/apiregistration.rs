//! Rules of API services.

use super::names;
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

/// Checks an API service, whose name says which version of which group it serves.
pub fn api_service(service: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let text = |field: &str| object::text(service, &format!("spec.{field}")).to_owned();
    let (group, version) = (text("group"), text("version"));
    let wanted = format!("{version}.{group}");
    let name = object::name(service);
    if name != wanted {
        let words = format!("must be `spec.version+\".\"+spec.group`: \"{wanted}\"");
        let metadata = Path::root("metadata");
        faults.push(FieldError::invalid(metadata.child("name"), name, words));
    }
    let target = object::get(service, "spec.service");
    if group.is_empty() && target.is_some() {
        let words = "only v1 may have an empty group and it better be legacy kube";
        faults.push(FieldError::required(path.child("group"), words));
    }
    for fault in names::dns_label(&version) {
        faults.push(FieldError::invalid(path.child("version"), version.as_str(), fault));
    }
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let number = object::integer(service, &format!("spec.{field}")).unwrap_or_default();
        if !(1..=most).contains(&number) {
            let words = format!("must be positive and less than {}", most);
            faults.push(FieldError::invalid(path.child(field), number, words));
        }
    }
    let Some(target) = target else {
        for field in ["caBundle", "insecureSkipTLSVerify"] {
            if object::get(service, &format!("spec.{field}")).is_some_and(|value| *value != false) {
                let words = "local APIServices may not have a caBundle or skip its verification";
                faults.push(FieldError::forbidden(path.child(field), words));
            }
        }
        return;
    };
    let here = path.child("service");
    for field in ["namespace", "name"] {
        if object::text(target, field).is_empty() {
            faults.push(FieldError::required(here.child(field), ""));
        }
    }
    super::check::port(
        object::integer(target, "port").unwrap_or(443),
        here.child("port"),
        faults,
    );
    let unchecked = object::truth(service, "spec.insecureSkipTLSVerify");
    if unchecked && !object::text(service, "spec.caBundle").is_empty() {
        let words = "may not be true if caBundle is present";
        faults.push(FieldError::invalid(path.child("insecureSkipTLSVerify"), true, words));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_name_is_version_and_group() {
        let paths = |name: &str| {
            let spec = json!({"group": "g.io", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10, "service": {"namespace": "n", "name": "s"}});
            let mut faults = Vec::new();
            api_service(&json!({"metadata": {"name": name}, "spec": spec}), &mut faults);
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        assert!(paths("v1.g.io").is_empty());
        assert_eq!(paths("g.io"), ["metadata.name"]);
    }
}
