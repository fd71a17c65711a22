#!/usr/bin/env python3
"""Measures a cluster beside programs that do a part of its work, each as often as the other and by turns.

    cargo build --release
    python3 tests/peers/compare.py ingress    # beside haproxy and nginx
    python3 tests/peers/compare.py dns        # beside unbound
    python3 tests/peers/compare.py http       # beside `wasmtime serve`, which WASMTIME names if it is not on the PATH

Needs wrk, haproxy, nginx, dnsperf and unbound (Debian: `apt-get install wrk haproxy nginx-light dnsperf unbound`) and kubectl.
Prints tables in Markdown: medians of the rounds. The processor time is that of all processes on the way together, but not of
the client that measures.
"""

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TICKS = os.sysconf("SC_CLK_TCK")

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: web, ports: [{containerPort: 8080}], readinessProbe: {httpGet: {path: /, port: 8080}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - host: web.localhost
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"""

HAPROXY = """
global
    nbthread {cores}
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option forwardfor
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    http-reuse always
    server web 127.0.0.1:{backend}
"""

NGINX = """
worker_processes {cores};
daemon off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
    uwsgi_temp_path {directory}; scgi_temp_path {directory};
    keepalive_requests 100000000;
    upstream web {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://web;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
}}
"""

UNBOUND = """
server:
    interface: 127.0.0.1@{port}
    directory: "{directory}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    verbosity: 0
    do-daemonize: no
    num-threads: {cores}
    local-zone: "cluster.local." static
    local-data: "web.default.svc.cluster.local. 5 IN A 10.96.0.99"
remote-control:
    control-enable: no
"""


def free_port(kind=socket.SOCK_STREAM):
    """A port that nobody has now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def children(pid):
    """A process and all that it has started."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found.extend(int(child) for child in task.read_text().split())
    return found


def cpu_seconds(processes):
    """Processor time that these and their children have used."""
    total = 0
    for process in processes:
        for pid in children(process.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


class Program:
    """A program that runs until the end of the comparison."""

    def __init__(self, command, port, **options):
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
        while port is not None:
            if self.process.poll() is not None:
                sys.exit(f"{command[0]} ended: {self.process.returncode}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                continue

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Cluster:
    """A cluster of the release build with one service behind an ingress."""

    def __init__(self, directory):
        self.http, self.dns = free_port(), free_port(socket.SOCK_DGRAM)
        self.data = Path(directory) / "data"
        command = [ROOT / "target/release/coracle", "up", "--data-dir", self.data, "--listen", "127.0.0.1:0", "--no-merge"]
        command += ["--ingress", f"127.0.0.1:{self.http},{free_port()}", "--dns-listen", f"127.0.0.1:{self.dns}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if line.startswith("ready"):
                break
        else:
            sys.exit("the cluster did not start")
        self.kubectl("apply", "-f", "-", input=WEB)
        self.kubectl("rollout", "status", "deployment/web")
        self.node_port = int(self.kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"))

    def kubectl(self, *arguments, **options):
        command = ["kubectl", "--kubeconfig", self.data / "kubeconfig", *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout

    def stop(self):
        self.process.terminate()
        self.process.wait()


def wrk(port, host, seconds, connections):
    """Requests a second, and how many failed."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Host: {host}", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", said), re.search(r"Socket errors: (.*)", said)
    if any(failed):
        sys.exit(f"requests failed:\n{said}")
    return float(re.search(r"Requests/sec: +([\d.]+)", said)[1])


def dnsperf(port, seconds, names):
    """Answers a second."""
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", names, "-l", str(seconds), "-c", "4", "-q", "200"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    completed = re.search(r"Queries completed: +\d+ \(([\d.]+)%\)", said)
    if not completed or float(completed[1]) < 99 or not re.search(r"NOERROR \d+ \(100.00%\)", said):
        sys.exit(f"questions without an answer:\n{said}")
    return float(re.search(r"Queries per second: +([\d.]+)", said)[1])


def by_turns(rounds, seconds, ways):
    """Runs each way in each round; prints the medians beside the first way's."""
    results = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (measure, processes) in ways.items():
            before = cpu_seconds(processes)
            rate = measure()
            used = cpu_seconds(processes) - before
            results[name].append((rate, 1e6 * used / (rate * seconds)))
    print("| | a second | beside the first | processor time each | beside the first |\n|---|---|---|---|---|")
    first = None
    for name, measured in results.items():
        rate, cost = (statistics.median(values) for values in zip(*measured))
        first = first or (rate, cost)
        print(f"| {name} | {rate:,.0f} | {rate / first[0]:.2f} x | {cost:.1f} µs | {cost / first[1]:.2f} x |")


def ingress(arguments, directory):
    cluster = Cluster(directory)
    programs = [cluster]
    ways = {"the ingress": (lambda: wrk(cluster.http, "web.localhost", arguments.seconds, 64), [cluster.process])}
    for name, text, command in [
        ("haproxy before a node port", HAPROXY, ["haproxy", "-f"]),
        ("nginx before a node port", NGINX, ["nginx", "-c"]),
    ]:
        port, file = free_port(), Path(directory) / command[0]
        file.write_text(
            text.format(cores=os.cpu_count(), port=port, backend=cluster.node_port, directory=directory),
        )
        program = Program([*command, file], port)
        programs.append(program)
        measure = lambda port=port: wrk(port, "web.localhost", arguments.seconds, 64)
        ways[name] = (measure, [cluster.process, program.process])
    ways["the node port alone"] = (
        lambda: wrk(cluster.node_port, "web.localhost", arguments.seconds, 64),
        [cluster.process],
    )
    return programs, ways


def dns(arguments, directory):
    cluster = Cluster(directory)
    port, file, names = free_port(socket.SOCK_DGRAM), Path(directory) / "unbound", Path(directory) / "names"
    file.write_text(UNBOUND.format(port=port, cores=os.cpu_count(), directory=directory))
    names.write_text("web.default.svc.cluster.local A\n")
    program = Program([shutil.which("unbound") or "/usr/sbin/unbound", "-c", file], port)
    ways = {
        name: (lambda port=port: dnsperf(port, arguments.seconds, names), [process])
        for name, port, process in [
            ("the cluster's DNS", cluster.dns, cluster.process),
            ("unbound", port, program.process),
        ]
    }
    return [cluster, program], ways


def http(arguments, directory):
    cluster = Cluster(directory)
    wasm = next(ROOT.glob("target/release/build/coracle-images-*/out/guests/wasm32-wasip2/release/web.wasm"))
    wasmtime = os.environ.get("WASMTIME") or shutil.which("wasmtime") or sys.exit("no wasmtime: name it in WASMTIME")
    programs = [cluster]
    served = [("a node port, two pods", cluster.node_port, cluster.process)]
    # Its default is an instance for each request; the last way keeps instances for further requests, as a node does.
    for name, options in [
        ("wasmtime serve", []),
        ("wasmtime serve, told to keep instances", ["-O", "pooling-allocator=y", "--max-instance-reuse-count", "1000000"]),
    ]:
        port = free_port()
        command = [wasmtime, "serve", "-S", "cli", *options, "--addr", f"127.0.0.1:{port}", wasm]
        programs.append(Program(command, port, stderr=subprocess.DEVNULL))
        served.append((name, port, programs[-1].process))
    ways = {
        name: (lambda port=port: wrk(port, "web.localhost", arguments.seconds, 64), [process])
        for name, port, process in served
    }
    return programs, ways


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ingress", "dns", "http"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        programs, ways = globals()[arguments.what](arguments, directory)
        try:
            by_turns(arguments.rounds, arguments.seconds, ways)
        finally:
            for program in reversed(programs):
                program.stop()


if __name__ == "__main__":
    main()
