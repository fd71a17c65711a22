"""The Python client `kubernetes`, unmodified: deploy, watch, scale, patch, read logs, forward a port, clean up.

Run with KUBECONFIG naming a cluster. Exits non-zero with a traceback where something is not as it should be.
"""

import socket
import sys

from kubernetes import client, config, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward

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


def main():
    config.load_kube_config()
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
