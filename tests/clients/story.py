"""The Python client `kubernetes`, unmodified: discover, deploy, watch, scale, patch, run a program, read logs, forward a
port, define a kind, apply on the server, elect a leader, clean up.

Run with KUBECONFIG naming a cluster. Exits non-zero with a traceback where something is not as it should be.
"""

import json
import socket
import sys
import threading

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.dynamic.exceptions import ConflictError
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
from kubernetes.stream import portforward, stream

NAMESPACE = "python-story"
PATIENCE = 60  # seconds that a state may take


def until(list_call, name, wanted):
    """Waits for an object to be as wanted, by a watch."""
    for event in watch.Watch().stream(
        list_call, NAMESPACE, field_selector=f"metadata.name={name}", timeout_seconds=PATIENCE
    ):
        if wanted(event["type"], event["object"]):
            return event["object"]
    raise AssertionError(f"{name} did not get there")


def discover(api):
    """Every document of discovery and OpenAPI can be read, and leads to the next."""

    world = dynamic.DynamicClient(api)

    def read(path):
        return json.loads(world.request("get", path, serialize=False).data)

    assert read("/version")["major"] == "1"
    assert "v1" in read("/api")["versions"]
    groups = read("/apis")["groups"]
    paths = ["/api/v1"] + [f"/apis/{version['groupVersion']}" for group in groups for version in group["versions"]]
    kinds = {resource["kind"] for path in paths for resource in read(path)["resources"]}
    assert {"Pod", "Deployment", "CustomResourceDefinition", "Lease"} <= kinds, kinds
    documents = read("/openapi/v3")["paths"]
    assert {path.lstrip("/") for path in paths} <= set(documents), documents.keys()
    schemas = read(documents["apis/apps/v1"]["serverRelativeURL"])["components"]["schemas"]
    assert "io.k8s.api.apps.v1.Deployment" in schemas
    assert "io.k8s.api.core.v1.Pod" in read("/openapi/v2")["definitions"]


def custom_kind(api):
    """A kind that is defined, found and used without any type of it here; and applied by two who do not agree."""
    world = dynamic.DynamicClient(api)
    definitions = world.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    properties = {"spec": {"type": "object", "properties": {"crew": {"type": "integer", "maximum": 8}}}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "rafts.python.example.com"},
        "spec": {
            "group": "python.example.com",
            "names": {"kind": "Raft", "plural": "rafts"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
                }
            ],
        },
    }
    definitions.create(body=definition)
    for event in definitions.watch(name="rafts.python.example.com", timeout=PATIENCE):
        conditions = event["object"].status.conditions or []
        if any(c.type == "Established" and c.status == "True" for c in conditions):
            break
    world = dynamic.DynamicClient(api)
    rafts = world.resources.get(api_version="python.example.com/v1", kind="Raft")

    def raft(crew):
        return {
            "apiVersion": "python.example.com/v1",
            "kind": "Raft",
            "metadata": {"name": "plank", "namespace": NAMESPACE},
            "spec": {"crew": crew},
        }

    made = rafts.server_side_apply(body=raft(1), field_manager="ours")
    assert made.spec.crew == 1, made
    try:
        rafts.server_side_apply(body=raft(2), field_manager="theirs")
        raise AssertionError("a conflict went through")
    except ConflictError as refused:
        message = json.loads(refused.body)["message"]
        assert message == 'Apply failed with 1 conflict: conflict with "ours": .spec.crew', message
    taken = rafts.server_side_apply(body=raft(2), field_manager="theirs", force_conflicts=True)
    assert taken.spec.crew == 2 and taken.metadata.managedFields[0].manager == "theirs", taken
    try:
        rafts.create(body=raft(9) | {"metadata": {"name": "crowded", "namespace": NAMESPACE}})
        raise AssertionError("a raft that is too full was made")
    except ApiException as refused:
        assert refused.status == 422, refused
    rafts.patch(
        body={"spec": {"crew": 3}},
        name="plank",
        namespace=NAMESPACE,
        content_type="application/merge-patch+json",
    )
    assert [raft.spec.crew for raft in rafts.get(namespace=NAMESPACE).items] == [3]
    definitions.delete(name="rafts.python.example.com")


def elect():
    """The first of two candidates leads; the lease says so."""
    leads = {name: threading.Event() for name in ("first", "second")}

    def campaign(name):
        leaderelection.LeaderElection(
            electionconfig.Config(
                LeaseLock("leader", NAMESPACE, name),
                lease_duration=15,
                renew_deadline=10,
                retry_period=1,
                onstarted_leading=leads[name].set,
                onstopped_leading=lambda: None,
            )
        ).run()

    for name, event in leads.items():
        threading.Thread(target=campaign, args=(name,), daemon=True).start()
        if name == "first":
            assert event.wait(PATIENCE), "nobody leads"
    leases = client.CoordinationV1Api()
    versions = set()
    for event in watch.Watch().stream(
        leases.list_namespaced_lease, NAMESPACE, field_selector="metadata.name=leader", timeout_seconds=PATIENCE
    ):
        assert event["object"].spec.holder_identity == "first", event["object"]
        versions.add(event["object"].metadata.resource_version)
        # Renewed twice while the other one asked.
        if len(versions) == 3:
            break
    assert not leads["second"].is_set(), "two lead"


def main():
    config.load_kube_config()
    discover(client.ApiClient())
    core, apps = client.CoreV1Api(), client.AppsV1Api()

    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    utils.create_from_dict(
        client.ApiClient(),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "hello", "namespace": NAMESPACE},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "hello"}},
                "template": {
                    "metadata": {"labels": {"app": "hello"}},
                    "spec": {"containers": [{"name": "hello", "image": "hello"}]},
                },
            },
        },
    )
    until(
        apps.list_namespaced_deployment,
        "hello",
        lambda _, deployment: deployment.status.available_replicas == 2,
    )

    pods = core.list_namespaced_pod(NAMESPACE, label_selector="app=hello").items
    assert len(pods) == 2, pods
    name = pods[0].metadata.name
    forwarded = portforward(
        core.connect_get_namespaced_pod_portforward, name, NAMESPACE, ports="8080"
    )
    connection = forwarded.socket(8080)
    connection.setblocking(True)
    connection.settimeout(PATIENCE)
    connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = b""
    while part := connection.recv(1024):
        answer += part
    assert f"Hello from {name}".encode() in answer, answer
    assert "GET / HTTP/1.1" in core.read_namespaced_pod_log(name, NAMESPACE)

    said = stream(
        core.connect_get_namespaced_pod_exec,
        name,
        NAMESPACE,
        command=["sh", "-c", "head -n 1; cat /nowhere; exit 3"],
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    said.write_stdin("a line\n")
    said.run_forever(timeout=PATIENCE)
    assert (said.read_stdout(), said.read_stderr()) == ("a line\n", "cat: /nowhere: No such file or directory\n")
    assert said.returncode == 3, said.returncode

    apps.patch_namespaced_deployment_scale("hello", NAMESPACE, {"spec": {"replicas": 1}})
    until(
        apps.list_namespaced_deployment,
        "hello",
        lambda _, deployment: deployment.status.replicas == 1,
    )

    made = core.create_namespaced_config_map(
        NAMESPACE, client.V1ConfigMap(metadata={"name": "settings"}, data={"a": "1"})
    )
    changed = core.patch_namespaced_config_map("settings", NAMESPACE, {"data": {"b": "2"}})
    assert changed.data == {"a": "1", "b": "2"}, changed.data
    try:
        core.replace_namespaced_config_map("settings", NAMESPACE, made)
        raise AssertionError("a stale replace went through")
    except ApiException as refused:
        assert refused.status == 409 and refused.reason == "Conflict", refused
    try:
        core.read_namespaced_config_map("nobody", NAMESPACE)
        raise AssertionError("a missing object was found")
    except ApiException as refused:
        assert refused.status == 404, refused

    # A list in pages has everything once.
    for n in range(25):
        core.create_namespaced_config_map(
            NAMESPACE, client.V1ConfigMap(metadata={"name": f"page-{n:02}", "labels": {"set": "pages"}})
        )
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="set=pages", limit=10, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"page-{n:02}" for n in range(25)], names

    kinds = {resource.kind for resource in apps.get_api_resources().resources}
    assert {"Deployment", "ReplicaSet", "Scale"} <= kinds, kinds
    custom_kind(client.ApiClient())
    elect()
    core.delete_namespace(NAMESPACE)
    for event in watch.Watch().stream(core.list_namespace, timeout_seconds=PATIENCE):
        if event["type"] == "DELETED" and event["object"].metadata.name == NAMESPACE:
            break
    else:
        raise AssertionError("the namespace stays")
    print("python: ok")


if __name__ == "__main__":
    socket.setdefaulttimeout(PATIENCE)
    sys.exit(main())
