//! Identities, rights and limits, as a user of kubectl meets them.

use crate::world::World;

/// kubectl as somebody who has nothing but a token.
async fn with_token(world: &World, token: &str, args: &[&str]) -> (bool, String, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(world.cluster.kubeconfig_path(), file.path()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let credentials = format!("--token={token}");
    for change in [
        ["config", "set-credentials", "bearer", credentials.as_str()],
        ["config", "set-context", "--current", "--user=bearer"],
    ] {
        let all: Vec<&str> = ["--kubeconfig", &path].into_iter().chain(change).collect();
        world.kubectl(&all).await;
    }
    let all: Vec<&str> = ["--kubeconfig", &path]
        .into_iter()
        .chain(args.iter().copied())
        .collect();
    world.try_kubectl(&all, "").await
}

#[tokio::test]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn a_token_is_all_that_a_client_needs() {
    let world = World::start().await;
    world.kubectl(&["create", "serviceaccount", "ci"]).await;
    let token = world.kubectl(&["create", "token", "ci"]).await;
    let token = token.trim();
    let (good, who, _) = with_token(&world, token, &["auth", "whoami"]).await;
    assert!(good && who.contains("system:serviceaccount:default:ci"), "{who}");
    let (good, _, said) = with_token(&world, token, &["get", "pods"]).await;
    assert!(!good);
    assert!(
        said.contains(
            "pods is forbidden: User \"system:serviceaccount:default:ci\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
        ),
        "{said}"
    );
    world
        .kubectl(&[
            "create",
            "rolebinding",
            "ci",
            "--clusterrole=view",
            "--serviceaccount=default:ci",
        ])
        .await;
    let (good, _, said) = with_token(&world, token, &["get", "pods"]).await;
    assert!(good, "{said}");
    let (_, listed, _) = with_token(&world, token, &["auth", "can-i", "--list"]).await;
    assert!(listed.contains("deployments.apps"), "{listed}");
    let (good, answer, _) = with_token(&world, token, &["auth", "can-i", "delete", "pods"]).await;
    assert!(!good && answer.trim() == "no", "{answer}");
    let (good, _, said) = with_token(&world, "eyJhbGciOiJFUzI1NiJ9.e30.AAAA", &["get", "pods"]).await;
    assert!(!good && said.contains("You must be logged in to the server"), "{said}");
}

#[tokio::test]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn an_administrator_looks_through_the_eyes_of_others() {
    let world = World::start().await;
    let who = world.kubectl(&["auth", "whoami", "--as=ann", "--as-group=dev"]).await;
    assert!(who.contains("ann") && who.contains("dev"), "{who}");
    let (good, _, said) = world.try_kubectl(&["get", "secrets", "--as=ann"], "").await;
    assert!(!good);
    assert!(said.contains("User \"ann\" cannot list resource \"secrets\""), "{said}");
    world
        .kubectl(&[
            "create",
            "clusterrolebinding",
            "ann",
            "--clusterrole=edit",
            "--user=ann",
        ])
        .await;
    let escalation = [
        "create",
        "clusterrolebinding",
        "more",
        "--clusterrole=cluster-admin",
        "--user=ann",
        "--as=ann",
    ];
    let (good, _, said) = world.try_kubectl(&escalation, "").await;
    assert!(!good && said.contains("forbidden"), "{said}");
}

#[tokio::test]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn limits_are_told_in_the_usual_words() {
    let world = World::start().await;
    world.kubectl(&["create", "namespace", "small"]).await;
    world
        .kubectl(&["create", "quota", "q", "--hard=pods=1,configmaps=10", "-n", "small"])
        .await;
    let pod = |name: &str, container: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: small}}\nspec:\n  containers:\n  - {{name: main, image: hello{container}}}\n"
        )
    };
    let apply = ["apply", "-f", "-"];
    let (good, _, said) = world.try_kubectl(&apply, &pod("a", "")).await;
    assert!(good, "{said}");
    let (good, _, said) = world.try_kubectl(&apply, &pod("b", "")).await;
    assert!(!good);
    assert!(
        said.contains("pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"),
        "{said}"
    );
    let shown = world.kubectl(&["describe", "quota", "q", "-n", "small"]).await;
    assert!(
        shown.lines().any(|line| line.split_whitespace().eq(["pods", "1", "1"])),
        "{shown}"
    );
    world.kubectl(&["delete", "quota", "q", "-n", "small"]).await;
    let range = "apiVersion: v1\nkind: LimitRange\nmetadata: {name: l, namespace: small}\nspec:\n  limits:\n  - {type: Container, max: {memory: 64Mi}}\n";
    let (good, _, said) = world.try_kubectl(&apply, range).await;
    assert!(good, "{said}");
    let large = pod("c", ", resources: {limits: {memory: 1Gi}}");
    let (good, _, said) = world.try_kubectl(&apply, &large).await;
    assert!(!good);
    assert!(
        said.contains("maximum memory usage per Container is 64Mi, but limit is 1Gi"),
        "{said}"
    );
}

#[tokio::test]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn a_restricted_namespace_refuses_a_careless_pod() {
    let world = World::start().await;
    world.kubectl(&["create", "namespace", "strict"]).await;
    world
        .kubectl(&[
            "label",
            "namespace",
            "strict",
            "pod-security.kubernetes.io/enforce=restricted",
        ])
        .await;
    let (good, _, said) = world
        .try_kubectl(&["run", "a", "--image=hello", "-n", "strict"], "")
        .await;
    assert!(!good);
    assert!(
        said.contains("violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"a\""),
        "{said}"
    );
}
