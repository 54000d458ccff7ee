"""Every allowed connection works and every other one is refused: pods of each duty try pods of each duty, port by port.

The pods are stand-ins with the labels of their duty, since the policies go by labels; each listens on every port of the matrix,
so what does not connect was refused. Around them stand those whom the values name (Git, KFP, Prometheus ...) and a stranger.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.kubernetes import an_object, restricted
from tests.cluster.whole_release import SPLIT, WholeRelease, duty_labels
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster
STORE, API = "store", "api"
OTHERS = ("client", "monitoring", "ingress", "ray-operator", "git", "kfp", "hub", "cloud", "stranger")
PORTS = (5000, 6443, 7070, 8000, 8080, 8265, 8443, 8444, 8887, 9418, 10001)
OUT = {
    "reader": {(STORE, 7070), ("cloud", 8444)},
    "reconciler": {(STORE, 7070), ("cloud", 8444), ("git", 9418), ("registry", 5000)},
    "pipeline": {(STORE, 7070), ("cloud", 8444), ("registry", 5000), (API, 6443), ("kfp", 8887), ("hub", 8443)},
    "trainer": {(STORE, 7070), ("cloud", 8444), ("registry", 5000), (API, 6443), ("hub", 8443)}
    | {("trainer", port) for port in PORTS},
    "registry": {(STORE, 7070), ("cloud", 8444)},
}
"""Duty -> whom it reaches, and on which port."""
IN = {
    "client": {("reader", 8000)},
    "monitoring": {("reader", 8000), ("reconciler", 8080)},
    "ingress": {("registry", 5000)},
    "ray-operator": {("trainer", 8265)},
    "stranger": set(),
}
"""Somebody else -> what of ours he reaches. Among themselves others are free: no policy is about them."""
LISTEN = """
import socket, sys, threading
def answer(server):
    while True:
        server.accept()[0].close()
for port in map(int, sys.argv[1:]):
    threading.Thread(target=answer, args=(socket.create_server(("", port), backlog=64),)).start()
"""
CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def connects(target):
    try:
        socket.create_connection((target[1], target[2]), timeout=1.5).close()
        return True
    except OSError:
        return False
targets = json.loads(sys.argv[1])
with ThreadPoolExecutor(len(targets)) as pool:
    reached = [[name, port] for (name, _, port), yes in zip(targets, pool.map(connects, targets)) if yes]
try:
    socket.getaddrinfo("kubernetes.default.svc.cluster.local", 443)
    print(json.dumps({"reached": reached, "resolves": True}))
except OSError:
    print(json.dumps({"reached": reached, "resolves": False}))
"""


@dataclass(frozen=True)
class StandIns:
    """Pods that listen on every port and try to reach each other."""

    whole: WholeRelease
    addresses: dict[str, str]
    """Whom -> address of his pod; STORE and API too."""

    def targets(self) -> list[tuple[str, str, int]]:
        """Every port of everybody whom our pods could reach."""
        listening = [
            (name, address, port) for name, address in self.addresses.items() for port in PORTS if name not in (STORE, API)
        ]
        return [*listening, (STORE, self.addresses[STORE], 7070), (API, self.addresses[API], 6443)]

    def look(self, name: str) -> tuple[set[tuple[str, int]], bool]:
        """Whom a pod reaches, and whether it can look up names."""
        place = self.whole.namespace_of(name) if name in SPLIT else self.whole.namespaces["others"]
        targets = [target for target in self.targets() if target[0] != name or name == "trainer"]
        command = (
            "kubectl",
            "exec",
            f"stand-in-{name}",
            "--namespace",
            place,
            "--",
            "python3",
            "-c",
            CONNECT,
            json.dumps(targets),
        )
        found = json.loads(self.whole.kubernetes.run(*command))
        return {(who, port) for who, port in found["reached"]}, found["resolves"]


def stand_in(whole: WholeRelease, name: str) -> dict:
    image = whole.images.name("release")
    command = ["python3", "-c", LISTEN, *map(str, PORTS)]
    ready = {"tcpSocket": {"port": PORTS[-1]}, "periodSeconds": 1}
    container = restricted(name="listen", image=image, command=command, readinessProbe=ready)
    spec = {"automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1, "containers": [container]}
    if name in SPLIT:
        labels = duty_labels(name) | {"app.kubernetes.io/instance": whole.name}
        return an_object("v1", "Pod", f"stand-in-{name}", namespace=whole.namespace_of(name), labels=labels, spec=spec)
    return an_object("v1", "Pod", f"stand-in-{name}", namespace=whole.namespaces["others"], labels={"app": name}, spec=spec)


@pytest.fixture(scope="module")
def stand_ins(whole_release) -> Iterator[StandIns]:
    kubernetes = whole_release.kubernetes
    pods = [stand_in(whole_release, name) for name in (*SPLIT, *OTHERS, "second-trainer")]
    pods[-1]["metadata"] |= {"namespace": whole_release.namespace_of("trainer"), "labels": duty_labels("trainer")}
    kubernetes.apply(*pods)
    addresses = {}
    for pod in pods:
        name, here = pod["metadata"]["name"], ("--namespace", pod["metadata"]["namespace"])
        kubernetes.run("kubectl", "wait", "--for=condition=Ready", f"pod/{name}", *here, "--timeout=120s", timeout_seconds=130)
        addresses[name.removeprefix("stand-in-")] = kubernetes.get("pod", name, *here)["status"]["podIP"]
    addresses["trainer"] = addresses.pop("second-trainer")  # the two trainers are each other's
    [store] = kubernetes.pods("s3", "app=s3")
    [api] = whole_release.api_servers()
    yield StandIns(whole_release, addresses | {STORE: store["status"]["podIP"], API: api})
    for pod in pods:
        kubernetes.run(
            "kubectl", "delete", "pod", pod["metadata"]["name"], "--namespace", pod["metadata"]["namespace"], "--wait=false"
        )


@pytest.mark.parametrize("duty", OUT)
def test_a_pod_of_ours_reaches_whom_its_duty_needs_and_nobody_else(stand_ins, duty):
    wait_for(lambda: stand_ins.look(duty) == (OUT[duty], True), f"{duty} reaches what it should", timeout_seconds=30)
    for _ in range(2):
        assert stand_ins.look(duty) == (OUT[duty], True)


@pytest.mark.parametrize("name", IN)
def test_others_reach_of_ours_what_they_are_named_for_and_nothing_else(stand_ins, name):
    def ours() -> set[tuple[str, int]]:
        return {(who, port) for who, port in stand_ins.look(name)[0] if who in SPLIT}

    wait_for(lambda: ours() == IN[name], f"{name} reaches what it should", timeout_seconds=30)
    for _ in range(2):
        assert ours() == IN[name]


def test_what_is_refused_to_ours_is_open_to_a_stranger(stand_ins):
    """So it was the policies that refused: the stranger reaches every port of everybody who is not ours."""
    reached, _ = stand_ins.look("stranger")
    assert {(who, port) for who in OTHERS if who != "stranger" for port in PORTS} <= reached
    assert {(STORE, 7070), (API, 6443)} <= reached
