//! The rows of the group `networking.k8s.io`.

use super::{Kind, NameRule, Strategy};
use crate::{defaults, prepare, table, validate};

fn row(kind: &'static str, plural: &'static str, go_type: &'static str) -> Kind {
    Kind::new("networking.k8s.io", "v1", kind, plural, go_type)
}

/// The kinds of `networking.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    vec![
        ingress(),
        ingress_class(),
        ip_address(),
        network_policy(),
        service_cidr(),
    ]
}

fn ingress() -> Kind {
    row("Ingress", "ingresses", "k8s.io/api/networking/v1.Ingress")
        .short(&["ing"])
        .with_status()
        .with_generation()
        .printed(table::networking::INGRESS, table::networking::ingress)
        .with(Strategy {
            validate: validate::ingress::ingress,
            prepare_create: prepare::networking::create_ingress,
            ..Strategy::NONE
        })
}

fn ingress_class() -> Kind {
    row(
        "IngressClass",
        "ingressclasses",
        "k8s.io/api/networking/v1.IngressClass",
    )
    .cluster()
    .with_generation()
    .printed(table::networking::INGRESS_CLASS, table::networking::ingress_class)
    .with(Strategy {
        default: defaults::networking::ingress_class,
        validate: validate::ingress::ingress_class,
        validate_update: validate::ingress::ingress_class_update,
        ..Strategy::NONE
    })
}

fn network_policy() -> Kind {
    row(
        "NetworkPolicy",
        "networkpolicies",
        "k8s.io/api/networking/v1.NetworkPolicy",
    )
    .short(&["netpol"])
    .with_generation()
    .printed(table::networking::NETWORK_POLICY, table::networking::network_policy)
    .with(Strategy {
        default: defaults::networking::network_policy,
        validate: validate::network_policy::network_policy,
        ..Strategy::NONE
    })
}

fn ip_address() -> Kind {
    row("IPAddress", "ipaddresses", "k8s.io/api/networking/v1.IPAddress")
        .cluster()
        .short(&["ip"])
        .printed(table::networking::IP_ADDRESS, table::networking::ip_address)
        .with(Strategy {
            name: NameRule::IpAddress,
            validate: validate::networking::ip_address,
            validate_update: validate::networking::ip_address_update,
            ..Strategy::NONE
        })
}

fn service_cidr() -> Kind {
    row("ServiceCIDR", "servicecidrs", "k8s.io/api/networking/v1.ServiceCIDR")
        .cluster()
        .with_status()
        .printed(table::networking::SERVICE_CIDR, table::networking::service_cidr)
        .with(Strategy {
            validate: validate::networking::service_cidr,
            validate_update: validate::networking::service_cidr_update,
            prepare_create: prepare::networking::create_service_cidr,
            ..Strategy::NONE
        })
}
