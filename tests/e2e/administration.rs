//! kubectl as administrators and the curious type it: everything described, watched, copied, certified and drained.

use std::fs;

use base64::Engine;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    kubectl::with_kubectl,
    world::{World, ready},
};

/// Types lines of kubectl one after the other; each succeeds, and its answer contains the words beside it.
async fn lines(world: &World, lines: &[(&str, &str)]) {
    for (line, wanted) in lines {
        let (good, out, err) = typed(world, line).await;
        assert!(
            good && (out.contains(wanted) || err.contains(wanted)),
            "kubectl {line}\n{out}{err}\nis without {wanted:?}"
        );
    }
}

/// Types lines that fail, with the words that say why.
async fn in_vain(world: &World, lines: &[(&str, &str)]) {
    for (line, wanted) in lines {
        let (good, out, err) = typed(world, line).await;
        assert!(
            !good && (out.contains(wanted) || err.contains(wanted)),
            "kubectl {line}\n{out}{err}\nis without {wanted:?}"
        );
    }
}

async fn typed(world: &World, line: &str) -> (bool, String, String) {
    let words = words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    world.try_kubectl(&words, "").await
}

/// The words of a line; quotes keep blanks together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for char in line.chars() {
        match char {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            char => words.last_mut().unwrap().push(char),
        }
    }
    words
}

/// A file for kubectl to read; its path.
fn file(world: &World, name: &str, text: &str) -> String {
    let directory = world.cluster.data().join("typed");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A request for a certificate for somebody called ann, as a manifest carries it.
fn certificate_request() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "ann");
    let request = parameters.serialize_request(&key).unwrap().pem().unwrap();
    base64::engine::general_purpose::STANDARD.encode(request)
}

with_kubectl! {
    async fn every_kind_is_listed_described_and_watched(world) {
        lines(&world, &[
            ("create deployment web --image=hello", "created"),
            ("expose deployment web --port=80 --target-port=8080", "exposed"),
            ("rollout status deployment/web --timeout=60s", "successfully rolled out"),
            ("get deployment web --subresource=scale", "DESIRED   AVAILABLE"),
            ("get deployment web --subresource=status -o name", "deployment.apps/web"),
            ("explain hpa --api-version=autoscaling/v1", "VERSION:    v1"),
            ("explain pod.spec.containers --recursive", "imagePullPolicy"),
            ("get cs", "controller-manager   Healthy"),
            ("get cs", "Warning: v1 ComponentStatus is deprecated in v1.19+"),
            ("explain pod.spec.containers.image -o plaintext-openapiv2", "Container image name. More info:"),
            ("explain deployment.spec -o plaintext-openapiv2", "progressDeadlineSeconds"),
            ("api-resources --categories=all --sort-by=name", "deployments"),
            ("logs -l app=web --prefix --max-log-requests=10", "/hello] hello: listening on"),
            ("logs deployment/web --since-time=2020-01-01T00:00:00Z --limit-bytes=6", "hello:"),
            ("run tmp --image=toolbox --restart=Never --rm -i --command -- toolbox echo said", "said"),
        ]).await;
        // For a part of an object, kubectl reads the older OpenAPI document, as protobuf.
        lines(&world, &[("create ingress web --class=none --rule=example.com/=web:80", "created")]).await;
        let script = file(&world, "address.sed", "s/loadBalancer: {}/loadBalancer: {ingress: [{ip: 192.0.2.7}]}/");
        let mut edit = world.kubectl_command(&["edit", "ingress/web", "--subresource=status"]);
        let edited = edit.env("KUBE_EDITOR", format!("sed -i -f {script}")).output().await.unwrap();
        assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
        lines(&world, &[("get ingress web", "192.0.2.7")]).await;
        in_vain(&world, &[
            ("get pods --field-selector=spec.nothing=x", "field label not supported: spec.nothing"),
            ("get nothings", "the server doesn't have a resource type \"nothings\""),
            ("logs deployment/web -p", "previous terminated container \"hello\""),
            ("explain pod.spec.nothing", "field \"nothing\" does not exist"),
            ("create -f /dev/null --raw /nothing", "the server could not find the requested resource"),
        ]).await;

        // Whatever kind there is prints as a table and can be described, all at once.
        let (_, kinds, _) = typed(&world, "api-resources --verbs=list -o name").await;
        let kinds: Vec<&str> = kinds.lines().collect();
        assert!(kinds.len() > 50, "{kinds:?}");
        // kubectl 1.32 describes these two by their beta version, which is not served any more.
        let beta = ["ipaddresses.networking.k8s.io", "servicecidrs.networking.k8s.io"];
        let described: Vec<&str> = kinds.iter().copied().filter(|kind| !beta.contains(kind)).collect();
        let (kinds, described) = (kinds.join(","), described.join(","));
        lines(&world, &[
            (&format!("get {kinds} -A -o wide"), "deployment.apps/web"),
            (&format!("describe {described} -A"), "Controlled By:"),
        ]).await;

        // A watch shows what is there, and then what happens.
        let watch = ["get", "configmaps", "-w", "--output-watch-events", "--no-headers"];
        let mut watch = world.kubectl_command(&watch).spawn().unwrap();
        let mut seen = BufReader::new(watch.stdout.take().unwrap()).lines();
        let first = seen.next_line().await.unwrap().unwrap();
        assert!(first.starts_with("ADDED") && first.contains("kube-root-ca.crt"), "{first}");
        lines(&world, &[("create configmap seen --from-literal=a=b", "created"), ("delete configmap seen", "deleted")]).await;
        for event in ["ADDED", "DELETED"] {
            let line = seen.next_line().await.unwrap().unwrap();
            assert!(line.starts_with(event) && line.contains("seen"), "{line}");
        }
        watch.kill().await.unwrap();
    }

    async fn files_are_copied_in_and_out(world) {
        world.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: store}\nspec:\n  containers:\n  - {name: main, image: hello, volumeMounts: [{name: s, mountPath: /s}]}\n  volumes: [{name: s, emptyDir: {}}]\n").await;
        world.pod("store", ready).await;
        let one = file(&world, "settings", "hello\n");
        let many = world.cluster.data().join("typed/many");
        fs::create_dir_all(many.join("inner")).unwrap();
        fs::write(many.join("inner/large"), "0123456789".repeat(100_000)).unwrap();
        fs::write(many.join("empty"), "").unwrap();
        let back = world.cluster.data().join("typed/back");
        lines(&world, &[
            (&format!("cp {one} store:/s/settings"), ""),
            ("exec store -- cat /s/settings", "hello"),
            (&format!("cp {} store:/s/many", many.display()), ""),
            ("exec store -- sh -c 'cat /s/many/inner/large | wc -c'", "1000000"),
            ("exec store -- sh -c 'tar cf - /s/many | tar tf -'", "s/many/inner/large"),
            (&format!("cp store:/s/many {}", back.display()), ""),
        ]).await;
        assert_eq!(fs::read_to_string(back.join("inner/large")).unwrap(), "0123456789".repeat(100_000));
        assert_eq!(fs::read_to_string(back.join("empty")).unwrap(), "");
        in_vain(&world, &[
            ("exec store -- tar cf - /s/nothing", "/s/nothing: No such file or directory"),
            ("exec store -- tar Jcf - /s", "invalid option -- 'J'"),
        ]).await;
    }

    async fn what_administrators_do(world) {
        let request = file(&world, "request.yaml", &"apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {name: ann}\nspec: {request: REQUEST, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}\n".replace("REQUEST", &certificate_request()));
        let role = file(&world, "role.yaml", "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: one, namespace: default}\nrules: [{apiGroups: [''], resources: [services], verbs: [get]}]\n");
        lines(&world, &[
            ("cordon coracle-1", "cordoned"),
            ("get nodes", "Ready,SchedulingDisabled"),
            ("uncordon coracle-1", "uncordoned"),
            ("taint node coracle-1 only=some:PreferNoSchedule", "tainted"),
            ("taint node coracle-1 only=others:PreferNoSchedule --overwrite", "modified"),
            ("taint node coracle-1 only-", "untainted"),
            ("run one --image=hello", "created"),
            ("wait --for=condition=Ready pod/one --timeout=60s", "met"),
            ("drain coracle-1 --ignore-daemonsets --force --dry-run=server", "evicting pod default/one (server dry run)"),
            ("drain coracle-1 --ignore-daemonsets --force --timeout=60s", "node/coracle-1 drained"),
            ("uncordon coracle-1", "uncordoned"),
            (&format!("create -f {request}"), "created"),
            ("get csr ann", "Pending"),
            ("certificate approve ann", "approved"),
            ("wait --for=jsonpath={.status.certificate} csr/ann --timeout=30s", "met"),
            ("get csr ann", "Approved,Issued"),
            ("auth can-i create pods", "yes"),
            ("auth can-i get pods/log --as=system:admin --as-group=system:masters", "yes"),
            ("auth whoami -o yaml", "system:masters"),
            (&format!("auth reconcile -f {role}"), "reconciled"),
            ("create rolebinding one --role=one --user=ann", "created"),
            ("set subject rolebinding/one --user=bob", "subjects updated"),
            ("auth can-i get services --as=bob", "yes"),
            ("auth can-i --list --as=bob", "services"),
        ]).await;
        in_vain(&world, &[
            ("auth can-i delete nodes --as=bob", "no"),
            ("certificate deny nobody", "not found"),
            ("drain nowhere", "nodes \"nowhere\" not found"),
            ("get nodes --as=bob", "nodes is forbidden: User \"bob\" cannot list resource \"nodes\""),
        ]).await;
        // A way in without credentials of one's own, for a browser or curl.
        let mut proxy = world.kubectl_command(&["proxy", "--port=0", "--accept-hosts=.*"]).spawn().unwrap();
        let mut said = BufReader::new(proxy.stdout.take().unwrap()).lines();
        let line = said.next_line().await.unwrap().unwrap();
        let address = line.strip_prefix("Starting to serve on ").unwrap();
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let answer = crate::world::http(stream).await;
        assert!(answer.contains("/apis/apps/v1"), "{answer}");
        proxy.kill().await.unwrap();
    }
}
