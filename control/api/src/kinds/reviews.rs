//! Kinds that are questions: a create is answered at once and nothing is stored.

use super::{CREATE, Kind};

/// The review kinds of `authentication.k8s.io/v1` and `authorization.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    let authentication = "authentication.k8s.io";
    let authorization = "authorization.k8s.io";
    let rows = [
        (
            authentication,
            "SelfSubjectReview",
            "selfsubjectreviews",
            "k8s.io/api/authentication/v1.SelfSubjectReview",
        ),
        (
            authentication,
            "TokenReview",
            "tokenreviews",
            "k8s.io/api/authentication/v1.TokenReview",
        ),
        (
            authorization,
            "SelfSubjectRulesReview",
            "selfsubjectrulesreviews",
            "k8s.io/api/authorization/v1.SelfSubjectRulesReview",
        ),
        (
            authorization,
            "SelfSubjectAccessReview",
            "selfsubjectaccessreviews",
            "k8s.io/api/authorization/v1.SelfSubjectAccessReview",
        ),
        (
            authorization,
            "SubjectAccessReview",
            "subjectaccessreviews",
            "k8s.io/api/authorization/v1.SubjectAccessReview",
        ),
    ];
    let review = |(group, kind, plural, go_type)| {
        Kind::new(group, "v1", kind, plural, go_type)
            .cluster()
            .with_verbs(CREATE)
    };
    let local = Kind::new(
        authorization,
        "v1",
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        "k8s.io/api/authorization/v1.LocalSubjectAccessReview",
    )
    .with_verbs(CREATE);
    rows.into_iter().map(review).chain([local]).collect()
}
