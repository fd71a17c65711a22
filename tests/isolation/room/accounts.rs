//! A pod's own token, used for what it does not give.

use coracle_isolation::world::{end, ended};

/// Rights to change ConfigMaps of its own namespace, and Roles, which must not become more rights than it has.
const RIGHTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: other}
---
apiVersion: v1
kind: Secret
metadata: {name: treasure, namespace: other}
stringData: {words: the-canary-sings}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: bomb}
data: {words: 'some text that doubles, and doubles, and doubles'}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: tenant}
rules:
- {apiGroups: [''], resources: [configmaps], verbs: [get, patch, create]}
- {apiGroups: [rbac.authorization.k8s.io], resources: [roles, rolebindings], verbs: [get, create, update, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tenant}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenant}
subjects: [{kind: ServiceAccount, name: default, namespace: default}]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_token_gives_nothing_of_others() {
    let _alone = crate::alone().await;
    let world = crate::world().await;
    world.apply(RIGHTS).await;
    let role = r#"{"metadata":{"name":"all"},"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}"#;
    let binding = r#"{"metadata":{"name":"all"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"ServiceAccount","name":"default","namespace":"default"}]}"#;
    let pod = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"hello"}]}}"#;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    // Each copies all that the others made: a million times a million times the text.
    let copies: Vec<_> = (0..60)
        .map(|n| serde_json::json!({"op": "copy", "from": "/data", "path": format!("/data/{n}")}))
        .collect();
    let copies = serde_json::to_string(&copies).unwrap();
    let cases = [
        ("GET", "/api/v1/namespaces/other/secrets/treasure", "", 403),
        ("GET", "/api/v1/namespaces/default/secrets", "", 403),
        ("GET", "/api/v1/secrets?watch=1", "", 403),
        ("GET", "/api/v1/nodes/coracle-1/proxy/pods", "", 403),
        ("GET", "/api/v1/namespaces/other/configmaps", "", 403),
        ("GET", "/api/v1/namespaces/default/pods/mine/log", "", 403),
        ("POST", "/api/v1/namespaces/default/pods", pod, 403),
        (
            "POST",
            "/api/v1/namespaces/default/serviceaccounts/default/token",
            r#"{"spec":{}}"#,
            403,
        ),
        ("POST", "/api/v1/nodes", r#"{"metadata":{"name":"mine"}}"#, 403),
        ("DELETE", "/api/v1/namespaces/other", "", 403),
        // More rights than its own, by roles that it may write: escalate and bind.
        ("POST", &format!("{rbac}/roles"), role, 403),
        ("POST", &format!("{rbac}/rolebindings"), binding, 403),
        // The name of another.
        ("IMPERSONATE", "/api/v1/namespaces/other/secrets/treasure", "", 403),
        // Paths that a careless server would tidy up after it has asked who may.
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/../../other/secrets/treasure",
            "",
            404,
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/%2e%2e%2f%2e%2e%2fother%2fsecrets%2ftreasure",
            "",
            404,
        ),
        ("GET", "//api/v1/namespaces/other/secrets/treasure", "", 403),
        // What it may do, to do harm with.
        ("PATCH", "/api/v1/namespaces/default/configmaps/bomb", &copies, 413),
        ("GET", "/api/v1/namespaces/default/configmaps/bomb", "", 200),
    ];
    for (number, (method, path, body, code)) in cases.iter().enumerate() {
        let name = format!("call-{number}");
        world.run(&name, "hostile", &["call", method, path, body], "").await;
        let ended = world.pod(&name, ended).await;
        assert_eq!(end(&ended).unwrap().1, 0, "{method} {path}");
        let said = world.log(&name, "main").await;
        // Where there is nothing of that name nobody needs to be told whose it would be.
        let found: u16 = said.split(' ').next().unwrap().parse().unwrap_or_default();
        assert!(
            found == *code || (*code == 404 && found == 403),
            "{method} {path}: {said}"
        );
        assert!(!said.contains("the-canary-sings"), "{said}");
    }
}
