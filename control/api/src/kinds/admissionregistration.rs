//! The rows of the group `admissionregistration.k8s.io`.

use super::{Kind, Strategy};
use crate::{defaults, table, validate};

fn row(kind: &'static str, plural: &'static str, go_type: &'static str) -> Kind {
    Kind::new("admissionregistration.k8s.io", "v1", kind, plural, go_type)
        .cluster()
        .in_extensions()
        .with_generation()
}

/// The kinds of `admissionregistration.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    vec![
        policy(
            "MutatingAdmissionPolicy",
            "mutatingadmissionpolicies",
            "k8s.io/api/admissionregistration/v1.MutatingAdmissionPolicy",
        )
        .printed(table::admission::MUTATING_POLICY, table::admission::mutating_policy),
        binding(
            "MutatingAdmissionPolicyBinding",
            "mutatingadmissionpolicybindings",
            "k8s.io/api/admissionregistration/v1.MutatingAdmissionPolicyBinding",
        ),
        webhooks(
            "MutatingWebhookConfiguration",
            "mutatingwebhookconfigurations",
            "k8s.io/api/admissionregistration/v1.MutatingWebhookConfiguration",
        )
        .with(Strategy {
            default: defaults::admission::mutating_webhooks,
            validate: validate::admission::mutating_webhooks,
            ..Strategy::NONE
        }),
        policy(
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            "k8s.io/api/admissionregistration/v1.ValidatingAdmissionPolicy",
        )
        .with_status()
        .printed(table::admission::VALIDATING_POLICY, table::admission::validating_policy)
        .with(Strategy {
            default: defaults::admission::policy,
            validate: validate::admission::validating_policy,
            ..Strategy::NONE
        }),
        binding(
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            "k8s.io/api/admissionregistration/v1.ValidatingAdmissionPolicyBinding",
        )
        .with(Strategy {
            default: defaults::admission::policy_binding,
            validate: validate::admission::validating_binding,
            ..Strategy::NONE
        }),
        webhooks(
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            "k8s.io/api/admissionregistration/v1.ValidatingWebhookConfiguration",
        ),
    ]
}

fn webhooks(kind: &'static str, plural: &'static str, go_type: &'static str) -> Kind {
    row(kind, plural, go_type)
        .printed(table::admission::WEBHOOKS, table::admission::webhooks)
        .with(Strategy {
            default: defaults::admission::webhooks,
            validate: validate::admission::webhooks,
            ..Strategy::NONE
        })
}

fn policy(kind: &'static str, plural: &'static str, go_type: &'static str) -> Kind {
    row(kind, plural, go_type).with(Strategy {
        default: defaults::admission::policy,
        validate: validate::admission::mutating_policy,
        ..Strategy::NONE
    })
}

fn binding(kind: &'static str, plural: &'static str, go_type: &'static str) -> Kind {
    row(kind, plural, go_type)
        .printed(table::admission::POLICY_BINDING, table::admission::policy_binding)
        .with(Strategy {
            default: defaults::admission::policy_binding,
            validate: validate::admission::binding,
            ..Strategy::NONE
        })
}
