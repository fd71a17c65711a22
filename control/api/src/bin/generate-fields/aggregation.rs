//! The facts of `apiregistration.k8s.io/v1`. Debian has no package of the aggregator's types, and they are few and have
//! not changed since Kubernetes 1.20, so the names and numbers stand here.

use crate::declarations::{Body, FieldDeclaration, Package, TypeDeclaration};
use std::collections::BTreeMap;

const PATH: &str = "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1";

/// JSON name, Go type, number, and whether an empty value is left out.
type Row = (&'static str, &'static str, u32, bool);

const STRUCTS: [(&str, &[Row]); 5] = [
    (
        "APIService",
        &[
            ("", "metav1.TypeMeta", 0, false),
            ("metadata", "metav1.ObjectMeta", 1, true),
            ("spec", "APIServiceSpec", 2, true),
            ("status", "APIServiceStatus", 3, true),
        ],
    ),
    (
        "APIServiceSpec",
        &[
            ("service", "*ServiceReference", 1, false),
            ("group", "string", 2, true),
            ("version", "string", 3, true),
            ("insecureSkipTLSVerify", "bool", 4, true),
            ("caBundle", "[]byte", 5, true),
            ("groupPriorityMinimum", "int32", 7, false),
            ("versionPriority", "int32", 8, false),
        ],
    ),
    (
        "ServiceReference",
        &[
            ("namespace", "string", 1, true),
            ("name", "string", 2, true),
            ("port", "*int32", 3, true),
        ],
    ),
    ("APIServiceStatus", &[("conditions", "[]APIServiceCondition", 1, true)]),
    (
        "APIServiceCondition",
        &[
            ("type", "string", 1, false),
            ("status", "string", 2, false),
            ("lastTransitionTime", "metav1.Time", 3, true),
            ("reason", "string", 4, true),
            ("message", "string", 5, true),
        ],
    ),
];

/// The package, as if it had been read.
pub fn package() -> Package {
    let types = STRUCTS.iter().map(|(name, rows)| {
        let fields = rows.iter().map(field).collect();
        let declaration = TypeDeclaration {
            markers: Vec::new(),
            body: Body::Struct(fields),
            imports: BTreeMap::from([("metav1".to_owned(), "k8s.io/apimachinery/pkg/apis/meta/v1".to_owned())]),
        };
        ((*name).to_owned(), declaration)
    });
    Package {
        path: PATH.to_owned(),
        group: Some("apiregistration.k8s.io".to_owned()),
        types: types.collect(),
        constants: Vec::new(),
    }
}

fn field((name, kind, number, omitted): &Row) -> FieldDeclaration {
    let empty = if *omitted { ",omitempty" } else { "" };
    let merge = match *name {
        "conditions" => " patchStrategy:\"merge\" patchMergeKey:\"type\"",
        _ => "",
    };
    let tags = match *number {
        0 => "json:\",inline\"".to_owned(),
        number => format!("json:\"{name}{empty}\"{merge} protobuf:\"bytes,{number},opt,name={name}\""),
    };
    FieldDeclaration {
        kind: (*kind).to_owned(),
        embedded: *number == 0,
        tags,
        markers: Vec::new(),
    }
}
