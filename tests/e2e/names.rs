//! The cluster's DNS as the specification has it, asked on the host with dig and drill, which share no code.

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::api::ListParams;
use tokio::process::Command;

use crate::world::{World, pod_ip, ready};

/// What dig prints of a question; `+short` prints only the data of answers.
async fn dig(world: &World, args: &[&str]) -> String {
    let dns = world.cluster.dns();
    let mut command = Command::new("dig");
    command
        .arg(format!("@{}", dns.ip()))
        .args(["-p", &dns.port().to_string(), "+tries=1", "+timeout=20"])
        .args(args)
        .kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "dig {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The same of drill, of a question without what only dig has options for.
async fn drill(world: &World, args: &[&str]) -> Option<String> {
    let mut asked = Vec::new();
    for arg in args {
        match *arg {
            "+tcp" => asked.push("-t"),
            option if option.starts_with('+') => return None,
            arg => asked.push(arg),
        }
    }
    let dns = world.cluster.dns();
    let mut command = Command::new("drill");
    command
        .args(["-Q", "-p", &dns.port().to_string()])
        .args(&asked)
        .arg(format!("@{}", dns.ip()))
        .kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "drill {args:?}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    not(all(has_dig, has_drill)),
    ignore = "dig or drill is missing; `. .ci/install` brings them, or your system's packages bind9-dnsutils and ldnsutils"
)]
async fn dig_and_drill_find_what_the_specification_names() {
    let world = World::start().await;
    world
        .apply(
            "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: stats, port: 8125, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: ExternalName, externalName: www.example.com}
---
apiVersion: v1
kind: Pod
metadata: {name: db, labels: {app: db}}
spec: {hostname: db-0, subdomain: db, containers: [{name: main, image: hello}]}
",
        )
        .await;
    let db = pod_ip(&world.pod("db", ready).await);
    let slices: kube::Api<EndpointSlice> = world.all();
    let of_db = ListParams::default().labels("kubernetes.io/service-name=db");
    let slice = slices.list(&of_db).await.unwrap().items[0]
        .metadata
        .name
        .clone()
        .unwrap();
    world
        .until(&slices, &slice, |slice| {
            slice.endpoints.iter().flatten().next().is_some()
        })
        .await;
    let web = world.until::<Service>(&world.all(), "web", |_| true).await;
    let web = web.spec.unwrap().cluster_ip.unwrap();
    // A pod knows the name when the node does.
    world
        .run("caller", "caller", &["http://db-0.db:8080/", "--every", "0.1"], "")
        .await;
    world.says("caller", "main", "Hello from db").await;

    let zone = "default.svc.cluster.local";
    let short: &[(&[&str], String)] = &[
        (&[&format!("web.{zone}")], web.clone()),
        (&[&format!("WEB.{zone}")], web.clone()),
        (
            &[&format!("_http._tcp.web.{zone}"), "SRV"],
            format!("0 100 80 web.{zone}."),
        ),
        (
            &[&format!("_stats._udp.web.{zone}"), "SRV"],
            format!("0 100 8125 web.{zone}."),
        ),
        (&[&format!("db.{zone}")], db.clone()),
        (&[&format!("db-0.db.{zone}")], db.clone()),
        (
            &[&format!("_sql._tcp.db.{zone}"), "SRV"],
            format!("0 100 8080 db-0.db.{zone}."),
        ),
        (&[&format!("out.{zone}"), "CNAME"], "www.example.com.".into()),
        (
            &[&format!("{}.default.pod.cluster.local", db.replace('.', "-"))],
            db.clone(),
        ),
        (&["-x", &web], format!("web.{zone}.")),
        (&["-x", &db], format!("db-0.db.{zone}.")),
        (&["dns-version.cluster.local", "TXT"], "\"1.1.0\"".into()),
        (&["+tcp", &format!("web.{zone}")], web.clone()),
        (&["+noedns", &format!("web.{zone}")], web.clone()),
        // What a program of a pod does with a short name, and when it does not.
        (&["+search", &format!("+domain={zone}"), "web"], web.clone()),
    ];
    for (args, expected) in short {
        let said = dig(&world, &[&["+short"], *args].concat()).await;
        assert_eq!(said.trim(), expected, "{args:?}");
        if let Some(said) = drill(&world, args).await {
            assert_eq!(said.trim(), expected, "drill {args:?}");
        }
    }
    let whole: &[(&[&str], &[&str])] = &[
        (
            &[&format!("absent.{zone}")],
            &["status: NXDOMAIN", "cluster.local.\t\t5\tIN\tSOA\t", "flags: qr aa"],
        ),
        (
            &[&format!("web.{zone}"), "AAAA"],
            &["status: NOERROR", "ANSWER: 0", "IN\tSOA\t"],
        ),
        (&["www.example.com"], &["status: REFUSED"]),
        (&[&format!("web.{zone}")], &["EDNS: version: 0", "ANSWER: 1"]),
        (
            &[&format!("_sql._tcp.db.{zone}"), "SRV"],
            &[&format!("db-0.db.{zone}."), "ADDITIONAL: 2"],
        ),
    ];
    for (args, expected) in whole {
        let said = dig(&world, args).await;
        for words in *expected {
            assert!(said.contains(words), "{args:?} without {words:?}:\n{said}");
        }
    }
}
