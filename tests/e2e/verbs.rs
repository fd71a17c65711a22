//! The verbs of `kubectl --help`, one after the other, with the flags that people give them.
//!
//! What is told elsewhere is left out here: exec, attach, cp, port-forward and proxy in `streams`, rollouts in `kubectl`,
//! drains in `stories`, server-side apply in `apply`.

use std::path::Path;

use crate::world::World;

/// A line as one types it, cut into words; single quotes hold a word together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

impl World {
    /// kubectl with a line as one types it: standard output, when it succeeds.
    async fn types(&self, line: &str) -> String {
        let words = words(line);
        self.kubectl(&words.iter().map(String::as_str).collect::<Vec<_>>())
            .await
    }

    /// The same for a command that must fail: what it says.
    async fn fails(&self, line: &str) -> String {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (good, out, err) = self.try_kubectl(&words, "").await;
        assert!(!good, "kubectl {line} succeeded:\n{out}");
        format!("{out}{err}")
    }

    /// Types a line and looks for words in what is printed.
    async fn shows(&self, line: &str, wanted: &[&str]) {
        let out = self.types(line).await;
        // Columns are as wide as what stands in them.
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = plain(&out);
        for part in wanted {
            assert!(
                said.contains(&plain(part)),
                "no {part:?} in the answer to kubectl {line}:\n{out}"
            );
        }
    }
}

/// Every generator of `kubectl create`, and what the made object then has.
const CREATED: &[(&str, &str, &str)] = &[
    ("namespace shop", "namespace/shop -o jsonpath={.status.phase}", "Active"),
    (
        "clusterrole looker --verb=get,list --resource=pods,deployments.apps",
        "clusterrole/looker -o jsonpath={.rules[*].apiGroups}",
        "[\"\"] [\"apps\"]",
    ),
    (
        "clusterrole prober --verb=get --non-resource-url=/healthz",
        "clusterrole/prober -o jsonpath={.rules[0].nonResourceURLs[0]}",
        "/healthz",
    ),
    (
        "clusterrole all-lookers --aggregation-rule=look=yes",
        "clusterrole/all-lookers -o jsonpath={.aggregationRule.clusterRoleSelectors[0].matchLabels.look}",
        "yes",
    ),
    (
        "role reader --verb=get --resource=configmaps --resource-name=settings",
        "role/reader -o jsonpath={.rules[0].resourceNames[0]}",
        "settings",
    ),
    (
        "rolebinding readers --role=reader --user=ann --group=dev",
        "rolebinding/readers -o jsonpath={.subjects[*].name}",
        "ann dev",
    ),
    (
        "clusterrolebinding lookers --clusterrole=looker --serviceaccount=default:ci",
        "clusterrolebinding/lookers -o jsonpath={.subjects[0].namespace}/{.roleRef.name}",
        "default/looker",
    ),
    ("serviceaccount ci", "serviceaccount/ci -o name", "serviceaccount/ci"),
    (
        "configmap settings --from-literal=colour=red --from-literal=size=3",
        "configmap/settings -o jsonpath={.data.colour}{.data.size}",
        "red3",
    ),
    (
        "secret generic login --from-literal=user=ann --type=example.com/login",
        "secret/login -o jsonpath={.type}={.data.user}",
        "example.com/login=YW5u",
    ),
    (
        "secret docker-registry pull --docker-server=registry.example.com --docker-username=ann --docker-password=p",
        "secret/pull -o jsonpath={.type}",
        "kubernetes.io/dockerconfigjson",
    ),
    (
        "quota small --hard=configmaps=40,secrets=20 --scopes=",
        "quota/small -o jsonpath={.spec.hard.configmaps}",
        "40",
    ),
    (
        "priorityclass high --value=1000 --description=first --preemption-policy=Never",
        "priorityclass/high -o jsonpath={.value}{.preemptionPolicy}",
        "1000Never",
    ),
    (
        "poddisruptionbudget two --selector=app=web --min-available=50%",
        "pdb/two -o jsonpath={.spec.minAvailable}",
        "50%",
    ),
    (
        "ingress front --class=none --rule=shop.example.com/*=web:80,tls=cert",
        "ingress/front -o jsonpath={.spec.rules[0].http.paths[0].pathType}{.spec.tls[0].secretName}",
        "Prefixcert",
    ),
    (
        "service clusterip inner --tcp=80:8080",
        "service/inner -o jsonpath={.spec.ports[0].targetPort}",
        "8080",
    ),
    (
        "service clusterip headless --clusterip=None --tcp=80",
        "service/headless -o jsonpath={.spec.clusterIP}",
        "None",
    ),
    (
        "service nodeport outer --tcp=80 --node-port=30999",
        "service/outer -o jsonpath={.spec.ports[0].nodePort}",
        "30999",
    ),
    (
        "service externalname away --external-name=example.com",
        "service/away -o jsonpath={.spec.externalName}",
        "example.com",
    ),
    (
        "service loadbalancer wide --tcp=80",
        "service/wide -o jsonpath={.spec.type}",
        "LoadBalancer",
    ),
    (
        "deployment web --image=hello --replicas=2 --port=8080",
        "deployment/web -o jsonpath={.spec.replicas}{.spec.template.spec.containers[0].ports[0].containerPort}",
        "28080",
    ),
    (
        "cronjob yearly --image=worker --schedule='0 0 1 1 *' -- worker 10",
        "cronjob/yearly -o jsonpath={.spec.schedule}",
        "0 0 1 1 *",
    ),
    (
        "job now --from=cronjob/yearly",
        "job/now -o jsonpath={.metadata.annotations.cronjob\\.kubernetes\\.io/instantiate}",
        "manual",
    ),
];

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn create_makes_what_it_says_and_everything_is_looked_at() {
    let world = World::start().await;
    for (create, get, wanted) in CREATED {
        world.types(&format!("create {create}")).await;
        assert_eq!(world.types(&format!("get {get}")).await.trim(), *wanted, "{create}");
    }
    let pki = world.cluster.data().join("pki");
    let pair = |kind: &str| pki.join(format!("ca.{kind}")).display().to_string();
    let tls = format!("create secret tls cert --cert={} --key={}", pair("crt"), pair("key"));
    world.types(&tls).await;
    let token = world.types("create token ci --duration=20m --audience=me").await;
    assert_eq!(token.split('.').count(), 3, "{token}");
    looks(&world).await;
    described(&world).await;
    the_cluster_itself(&world).await;
}

async fn looks(world: &World) {
    world
        .types("wait --for=condition=Available deployment/web --timeout=60s")
        .await;
    world
        .types("wait --for=jsonpath={.status.readyReplicas}=2 deployment/web --timeout=60s")
        .await;
    world
        .shows("get deployment web -o yaml", &["kind: Deployment", "readyReplicas: 2"])
        .await;
    world
        .shows("get deploy/web svc/inner -o json", &["\"kind\": \"List\""])
        .await;
    world
        .shows(
            "get deploy web -o custom-columns=N:.metadata.name,I:.spec.template.spec.containers[0].image",
            &["N     I", "web   hello"],
        )
        .await;
    world
        .shows(
            "get deploy web -o go-template='{{.metadata.name}}:{{.spec.replicas}}'",
            &["web:2"],
        )
        .await;
    world
        .shows("get pods -l app=web --show-labels", &["app=web,pod-template-hash="])
        .await;
    world.shows("get pods -L app", &["APP", "web"]).await;
    world
        .shows(
            "get deploy web --subresource=scale -o jsonpath={.kind}{.spec.replicas}",
            &["Scale2"],
        )
        .await;
    let sorted = world
        .types("get services --sort-by=.metadata.name -o name --chunk-size=2")
        .await;
    let names: Vec<&str> = sorted.lines().collect();
    assert!(names.is_sorted() && names.contains(&"service/kubernetes"), "{sorted}");
    world
        .shows(
            "get pods --field-selector=status.phase=Running -o name -l app=web",
            &["pod/web-"],
        )
        .await;
    assert_eq!(world.types("get pod nobody --ignore-not-found").await, "");
    world
        .shows(
            "get all,cm,secrets -A",
            &["deployment.apps/web", "secret/login", "configmap/kube-root-ca.crt"],
        )
        .await;
    world
        .shows("events --for deployment/web", &["ScalingReplicaSet", "Deployment/web"])
        .await;
    world
        .shows("events --types=Normal -A", &["Started container hello"])
        .await;
}

async fn described(world: &World) {
    let job = "job-name=now";
    world.types("wait --for=condition=Complete job/now --timeout=60s").await;
    for (object, wanted) in [
        ("namespace shop", "Status:       Active"),
        ("clusterrole looker", "deployments.apps"),
        ("clusterrolebinding lookers", "ServiceAccount  ci  default"),
        ("role reader", "[settings]"),
        ("rolebinding readers", "User   ann"),
        ("serviceaccount ci", "Name:                ci"),
        ("configmap settings", "colour:"),
        ("secret login", "user:  3 bytes"),
        ("quota small", "configmaps"),
        ("priorityclass high", "first"),
        ("pdb two", "Min available:  50%"),
        ("ingress front", "shop.example.com"),
        ("service inner", "IP:                10.96."),
        ("deployment web", "2 desired | 2 updated | 2 total | 2 available"),
        ("replicaset -l app=web", "Controlled By:  Deployment/web"),
        ("pod -l app=web", "Ready:          True"),
        ("cronjob yearly", "0 0 1 1 *"),
        ("job now", "1 Succeeded"),
        (
            "endpointslice -l kubernetes.io/service-name=kubernetes",
            "AddressType:  IPv4",
        ),
        ("node coracle-1", "Kubelet Version:"),
        ("lease -n kube-node-lease coracle-1", "Holder Identity:"),
        ("apiservice v1.apps", "Local"),
    ] {
        world.shows(&format!("describe {object}"), &[wanted]).await;
    }
    world
        .shows(
            &format!("logs -l {job} --prefix --timestamps --tail=-1"),
            &["[pod/now-", "primes"],
        )
        .await;
    world.shows("logs job/now --all-containers", &["primes"]).await;
}

async fn the_cluster_itself(world: &World) {
    world
        .shows("cluster-info", &["Kubernetes control plane", "is running at"])
        .await;
    let dump = tempfile::tempdir().unwrap();
    let line = format!(
        "cluster-info dump --output-directory={} --namespaces=default",
        dump.path().display()
    );
    world.types(&line).await;
    assert!(dump.path().join("default/deployments.json").exists());
    world
        .shows("version -o json", &["\"serverVersion\"", "\"minor\": \"36\""])
        .await;
    world
        .shows(
            "api-versions",
            &["apps/v1", "admissionregistration.k8s.io/v1", "autoscaling/v2"],
        )
        .await;
    world
        .shows(
            "api-resources --namespaced=false -o wide",
            &["customresourcedefinitions", "SHORTNAMES", "VERBS"],
        )
        .await;
    world
        .shows("config view --minify", &["current-context: coracle", "DATA+OMITTED"])
        .await;
    world.shows("auth whoami", &["system:masters"]).await;
    world.shows("auth can-i --list", &["*.*"]).await;
    assert_eq!(
        world
            .types("auth can-i get pods --as=system:serviceaccount:default:ci -A")
            .await,
        "yes\n"
    );
    world
        .shows("get --raw /openapi/v3", &["\"apis/apps/v1\"", "serverRelativeURL"])
        .await;
    world.shows("get --raw /readyz?verbose", &["readyz check passed"]).await;
    let reconciled = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reader, namespace: default}\nrules: [{apiGroups: [''], resources: [pods], verbs: [get]}]\n";
    let (good, out, err) = world.try_kubectl(&["auth", "reconcile", "-f", "-"], reconciled).await;
    assert!(good && out.contains("reconciled"), "{out}{err}");
    world.shows("describe role reader", &["[settings]", "pods"]).await;
}

const LAMP: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: lamp, labels: {set: lamps}}
spec:
  replicas: 0
  selector: {matchLabels: {app: lamp}}
  template:
    metadata: {labels: {app: lamp}}
    spec: {containers: [{name: main, image: hello, env: [{name: COLOUR, value: red}]}]}
";

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn objects_are_changed_in_every_way() {
    let world = World::start().await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("lamp.yaml");
    std::fs::write(&file, LAMP).unwrap();
    let file = file.display().to_string();
    applied(&world, &file, home.path()).await;
    set(&world).await;
    patched(&world).await;
    pruned_and_kustomized(&world, home.path()).await;
    deleted(&world).await;
    for line in ["certificate approve r", "certificate deny r"] {
        let said = world.fails(line).await;
        assert!(said.contains("not found"), "{said}");
    }
    world.types("completion bash").await;
    nodes(&world).await;
}

async fn applied(world: &World, file: &str, home: &Path) {
    world
        .shows(
            &format!("apply -f {file} --dry-run=server"),
            &["created (server dry run)"],
        )
        .await;
    world.fails("get deployment lamp").await;
    let difference = world.fails(&format!("diff -f {file}")).await;
    assert!(difference.contains("+  name: lamp"), "{difference}");
    world.types(&format!("apply -f {file}")).await;
    assert_eq!(world.types(&format!("diff -f {file}")).await, "");
    world
        .shows("apply view-last-applied deployment/lamp", &["value: red"])
        .await;
    let blue = home.join("blue.yaml");
    std::fs::write(&blue, LAMP.replace("red", "blue")).unwrap();
    world
        .types(&format!("apply set-last-applied -f {}", blue.display()))
        .await;
    world
        .shows("apply view-last-applied deployment/lamp -o json", &["blue"])
        .await;
    // An editor is any program that changes the file that it is given.
    let editor = "sed -i s/COLOUR/TINT/";
    let mut edit = world.kubectl_command(&["edit", "deployment/lamp"]);
    let edited = edit.env("KUBE_EDITOR", editor).output().await.unwrap();
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    world.shows("set env deployment/lamp --list", &["TINT=red"]).await;
    world
        .shows(&format!("replace --force -f {file}"), &["deleted", "replaced"])
        .await;
    world.shows("set env deployment/lamp --list", &["COLOUR=red"]).await;
}

async fn set(world: &World) {
    world.types("create serviceaccount lamps").await;
    world.types("create configmap more --from-literal=SIZE=3").await;
    for line in [
        "set image deployment/lamp main=hello:v2",
        "set env deployment/lamp COLOUR=green",
        "set env deployment/lamp --from=configmap/more",
        "set resources deployment/lamp -c=main --limits=cpu=200m,memory=64Mi --requests=cpu=10m",
        "set serviceaccount deployment/lamp lamps",
        "annotate deployment/lamp kubernetes.io/change-cause='many things'",
        "label deployment/lamp tier=back --overwrite",
        "expose deployment/lamp --port=80 --target-port=8080 --type=NodePort --name=lit",
        "set selector service/lit app=dark",
        "create rolebinding see --clusterrole=view --user=ann",
        "set subject rolebinding/see --user=bob",
        "autoscale deployment/lamp --min=1 --max=3 --cpu-percent=80",
        "delete hpa/lamp",
        "rollout pause deployment/lamp",
        "rollout resume deployment/lamp",
        "rollout restart deployment/lamp",
    ] {
        world.types(line).await;
    }
    let template = "get deployment lamp -o jsonpath={.spec.template.spec.containers[0]";
    assert_eq!(world.types(&format!("{template}.image}}")).await, "hello:v2");
    let limits = world.types(&format!("{template}.resources.limits}}")).await;
    assert_eq!(limits, r#"{"cpu":"200m","memory":"64Mi"}"#);
    let env = world.types("set env deployment/lamp --list --resolve").await;
    assert!(env.contains("COLOUR=green") && env.contains("SIZE=3"), "{env}");
    world
        .shows("get service lit -o jsonpath={.spec.selector.app}", &["dark"])
        .await;
    world
        .shows("get rolebinding see -o jsonpath={.subjects[*].name}", &["ann bob"])
        .await;
    world
        .types("wait --for=jsonpath={.status.observedGeneration} deployment/lamp --timeout=60s")
        .await;
    world.shows("rollout history deployment/lamp", &["many things"]).await;
    world
        .shows("scale deployment/lamp --current-replicas=0 --replicas=1", &["scaled"])
        .await;
    let said = world
        .fails("scale deployment/lamp --current-replicas=7 --replicas=2")
        .await;
    assert!(said.contains("Expected replicas to be 7, was 1"), "{said}");
    world
        .shows(
            "rollout status deployment/lamp --timeout=60s",
            &["successfully rolled out"],
        )
        .await;
}

async fn patched(world: &World) {
    let strategic =
        r#"patch deployment lamp -p '{"spec":{"template":{"spec":{"containers":[{"name":"main","args":["a"]}]}}}}'"#;
    world.types(strategic).await;
    let merge = r#"patch deployment lamp --type=merge -p '{"metadata":{"labels":{"tier":null}}}'"#;
    world.types(merge).await;
    let json = r#"patch deployment lamp --type=json -p '[{"op":"test","path":"/spec/replicas","value":1},{"op":"add","path":"/metadata/labels/n","value":"1"}]'"#;
    world.types(json).await;
    world
        .shows(
            "get deployment lamp -o jsonpath={.spec.template.spec.containers[0].image}{.metadata.labels}",
            &[r#"hello:v2{"n":"1","set":"lamps"}"#],
        )
        .await;
    world
        .shows(
            r#"patch deployment lamp --subresource=scale --type=merge -p '{"spec":{"replicas":0}}'"#,
            &["scale.autoscaling/lamp patched"],
        )
        .await;
    let said = world
        .fails(r#"patch deployment lamp --type=json -p '[{"op":"test","path":"/spec/replicas","value":9}]'"#)
        .await;
    assert!(said.contains("test"), "{said}");
}

async fn pruned_and_kustomized(world: &World, home: &Path) {
    let map = |name: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{prune: me}}}}\n---\n")
    };
    let apply = |names: &[&str]| {
        let text: String = names.iter().map(|name| map(name)).collect();
        async move {
            let args = ["apply", "--prune", "-l", "prune=me", "-f", "-"];
            let (good, out, err) = world.try_kubectl(&args, &text).await;
            assert!(good, "{out}{err}");
            out
        }
    };
    apply(&["one", "two"]).await;
    let said = apply(&["one"]).await;
    assert!(said.contains("configmap/two pruned"), "{said}");

    let kustomization = "namePrefix: my-\nresources: [map.yaml]\nlabels: [{pairs: {from: kustomize}}]\n";
    let folder = home.join("k");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("kustomization.yaml"), kustomization).unwrap();
    std::fs::write(folder.join("map.yaml"), map("base")).unwrap();
    let folder = folder.display();
    world.shows(&format!("kustomize {folder}"), &["name: my-base"]).await;
    world
        .shows(&format!("apply -k {folder}"), &["configmap/my-base created"])
        .await;
    world
        .shows("get cm -l from=kustomize -o name", &["configmap/my-base"])
        .await;
    world.shows(&format!("delete -k {folder}"), &["deleted"]).await;
}

async fn deleted(world: &World) {
    let owned = "get replicasets -l app=lamp -o jsonpath={.items[*].metadata.ownerReferences[*].kind}";
    assert!(world.types(owned).await.contains("Deployment"));
    world.types("delete deployment lamp --cascade=orphan").await;
    assert_eq!(world.types(owned).await, "");
    assert_ne!(world.types("get replicasets -l app=lamp -o name").await, "");
    world
        .shows(
            "delete replicasets -l app=lamp --cascade=foreground --wait=true",
            &["deleted"],
        )
        .await;
    world
        .shows("delete rolebinding/see service/lit --now", &["deleted"])
        .await;
    world
        .shows("delete configmap more --dry-run=server", &["(server dry run)"])
        .await;
    world.types("get configmap more").await;
    world.types("delete configmap more").await;
    world.types("wait --for=delete configmap/more --timeout=60s").await;
}

async fn nodes(world: &World) {
    world.types("taint node coracle-1 full=yes:NoSchedule").await;
    world.shows("describe node coracle-1", &["full=yes:NoSchedule"]).await;
    world.types("taint node coracle-1 full-").await;
    world.types("cordon coracle-1").await;
    world.shows("get node coracle-1", &["Ready,SchedulingDisabled"]).await;
    world.types("uncordon coracle-1").await;
    world.types("label node coracle-1 disk=fast").await;
    world.shows("get nodes -L disk --selector=disk=fast", &["fast"]).await;
}
