//! The audit log: a line for every request, and never a secret.

use std::path::Path;

use bytes::Bytes;
use coracle_server::AuditLog;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::policies::{bind, rules, validating};
use crate::webhooks::{VALIDATING, configure, hook, webhook};
use crate::wire::running_in;
use crate::world::{World, send, world_where};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

async fn audited(file: &Path) -> World {
    world_where(|config| config.audit = Some(AuditLog::open(file).unwrap())).await
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines about paths that begin so, of users of their own.
fn about(file: &Path, path: &str) -> Vec<Value> {
    let mut lines = lines(file);
    lines.retain(|line| {
        let system = line["user"]["username"].as_str().unwrap().starts_with("system:");
        line["requestURI"].as_str().unwrap().starts_with(path) && !system
    });
    lines
}

#[tokio::test]
async fn a_request_is_told_with_what_came_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit");
    let world = audited(&file).await;
    let map = |name: &str| json!({"metadata": {"name": name}, "data": {"a": "1"}});
    let as_bob = Request::post(MAPS)
        .header("impersonate-user", "bob")
        .header("impersonate-group", "system:masters")
        .header("user-agent", "tester/1")
        .body(Full::new(Bytes::from(map("one").to_string())))
        .unwrap();
    let answer = world.admin().oneshot(as_bob).await.unwrap();
    let id = answer.headers()["audit-id"].to_str().unwrap().to_owned();
    let nobody = world.server.local("nobody", &[]);
    send(nobody, Method::DELETE, &format!("{MAPS}/one"), Value::Null).await;
    world.fails(Method::POST, MAPS, map("one")).await;
    let told = about(&file, MAPS);
    assert_eq!(told.len(), 3, "{told:#?}");
    let first = &told[0];
    assert_eq!(first["auditID"], id);
    assert_eq!(
        (&first["kind"], &first["apiVersion"], &first["level"], &first["stage"]),
        (
            &json!("Event"),
            &json!("audit.k8s.io/v1"),
            &json!("Metadata"),
            &json!("ResponseComplete")
        )
    );
    assert_eq!(
        (&first["user"]["username"], &first["impersonatedUser"]["username"]),
        (&json!("coracle-admin"), &json!("bob"))
    );
    assert_eq!(
        (&first["verb"], &first["userAgent"]),
        (&json!("create"), &json!("tester/1"))
    );
    assert_eq!(
        first["objectRef"],
        json!({"resource": "configmaps", "apiVersion": "v1", "namespace": "default", "name": "one"})
    );
    assert_eq!(first["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert!(first["stageTimestamp"].as_str().unwrap() >= first["requestReceivedTimestamp"].as_str().unwrap());
    assert_eq!(
        (
            &told[1]["responseStatus"]["code"],
            &told[1]["annotations"]["authorization.k8s.io/decision"]
        ),
        (&json!(403), &json!("forbid"))
    );
    assert_eq!(told[2]["responseStatus"]["reason"], "AlreadyExists");
}

#[tokio::test]
async fn a_stream_is_told_when_it_ends_and_where_it_came_from() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit");
    let running = running_in(audited(&file).await).await;
    let request = Request::get(format!("{MAPS}?watch=1"))
        .body(Full::<Bytes>::default())
        .unwrap();
    let watch = running.world.admin().oneshot(request).await.unwrap();
    assert_eq!(about(&file, MAPS), [] as [Value; 0]);
    drop(watch);
    assert_eq!(about(&file, MAPS)[0]["verb"], "watch");
    running
        .raw("GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    let version = &about(&file, "/version")[0];
    assert_eq!(
        (
            &version["sourceIPs"],
            &version["user"]["username"],
            version.get("objectRef")
        ),
        (&json!(["127.0.0.1"]), &json!("coracle-admin"), None)
    );
}

#[tokio::test]
async fn no_secret_is_ever_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit");
    let world = audited(&file).await;
    let secret = |data: Value| json!({"metadata": {"name": "s"}, "stringData": data});
    world
        .ok(Method::POST, SECRETS, secret(json!({"password": "hush"})))
        .await;
    world
        .fails(Method::POST, SECRETS, secret(json!({"not a key: hush": "x"})))
        .await;
    world.get(&format!("{SECRETS}/s")).await;
    let account = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let token = world.ok(Method::POST, account, json!({"spec": {}})).await["status"]["token"].clone();
    let token = token.as_str().unwrap();
    for credentials in [token, "hush"] {
        let request = Request::get(MAPS).header("authorization", format!("Bearer {credentials}"));
        let answer = world
            .server
            .local_anonymous()
            .oneshot(request.body(Full::<Bytes>::default()).unwrap());
        answer.await.unwrap().into_body().collect().await.unwrap();
    }
    let exec = "/api/v1/namespaces/default/pods/p/exec?command=login&command=hush";
    world.fails(Method::POST, exec, Value::Null).await;
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        about(&file, SECRETS).len() == 3 && text.contains("/pods/p/exec"),
        "{text}"
    );
    assert!(!text.contains("hush") && !text.contains(token), "{text}");
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn policies_and_webhooks_add_what_they_want_to_be_known() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit");
    let world = audited(&file).await;
    let spec = json!({
        "matchConstraints": rules("", "configmaps", &["CREATE"]),
        "validations": [{"expression": "true"}, {"expression": "has(object.data.owner)", "message": "whose is it?"}],
        "auditAnnotations": [{"key": "size", "valueExpression": "string(object.data.size())"}],
    });
    validating(&world, "owned", spec).await;
    bind(&world, "owned", json!({"validationActions": ["Audit"]})).await;
    let (client, _) = hook(
        &world,
        "guard",
        |_| json!({"allowed": true, "auditAnnotations": {"seen": "yes"}}),
    );
    configure(
        &world,
        VALIDATING,
        "v",
        vec![webhook("guard", client, &["configmaps"], json!({}))],
    )
    .await;
    let map = json!({"metadata": {"name": "one"}, "data": {"a": "1", "b": "2"}});
    world.ok(Method::POST, MAPS, map).await;
    let annotations = about(&file, MAPS)[0]["annotations"].clone();
    assert_eq!(
        (&annotations["owned/size"], &annotations["guard.example.com/seen"]),
        (&json!("2"), &json!("yes"))
    );
    let failures = annotations["validation.policy.admission.k8s.io/validation_failure"]
        .as_str()
        .unwrap();
    let failures: Value = serde_json::from_str(failures).unwrap();
    assert_eq!(
        failures,
        json!([{
            "message": "whose is it?", "policy": "owned", "binding": "owned-everywhere",
            "expressionIndex": 1, "validationActions": ["Audit"],
        }])
    );
}
