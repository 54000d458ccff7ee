"""A node with a pod of the fleet is gone at once: what was being asked there fails, nothing else; the fleet mends itself."""

import itertools
import time
import uuid

import pytest

from tests.cluster.fleet import Fleet, prepare_namespace
from tests.cluster.load import load_from_a_pod
from tests.cluster.locks import lock
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster

NODES = ("node-1", "node-2", "node-3")
ASKERS = 3


@pytest.fixture(scope="module")
def fleet(three_nodes, kubernetes, images, channel):
    """Three pods, one on each node."""
    namespace = prepare_namespace(kubernetes, f"nodes-{uuid.uuid4().hex[:8]}", channel)
    values = {
        "serving.replicas": 3,
        "serving.resources.requests.cpu": "50m",
        "serving.nodeLossSeconds": 5,
    }
    yield Fleet(kubernetes, namespace, channel, images.name("serving"), values=values).install().wait()
    kubernetes.delete_namespace(namespace)


@pytest.fixture(autouse=True)
def spread(three_nodes, fleet):
    """Each test begins with a pod on each node, and nobody else crashes or taints one until it ends."""
    with lock("nodes"):
        three_nodes.wait_until_whole()
        if nodes_of_ready(fleet) != sorted(NODES):
            fleet.kubernetes.run("kubectl", "rollout", "restart", f"deployment/{fleet.name}", *fleet.here)
            fleet.wait()
        wait_for(lambda: nodes_of_ready(fleet) == sorted(NODES), "there is one pod on each node", timeout_seconds=120)
        yield


def nodes_of_ready(fleet: Fleet) -> list[str]:
    """The node of each pod that is ready and has not been told to go."""
    return sorted(
        pod["spec"]["nodeName"]
        for pod in fleet.pods()
        if "deletionTimestamp" not in pod["metadata"]
        and any(part["type"] == "Ready" and part["status"] == "True" for part in pod["status"].get("conditions", []))
    )


@pytest.mark.parametrize("crashing", NODES)
def test_a_fleet_survives_the_crash_of_a_node(three_nodes, fleet, crashing):
    """The store lives on one of the nodes. Without it the others go on answering; a pod starts anew once it is back."""
    holds_store = crashing in {pod["spec"]["nodeName"] for pod in fleet.kubernetes.pods("s3", "app=s3")}
    watcher = next(node for node in NODES if node != crashing)
    options = {"threads": ASKERS, "pause_seconds": 0.05, "connects": 200}
    with load_from_a_pod(fleet, fleet.channel.prompt(seed=1), f"asks-{crashing}", watcher, **options) as outcome:
        time.sleep(3)
        crash = time.time()
        with three_nodes.crashed(crashing):
            if holds_store:
                time.sleep(40)  # until Kubernetes has noticed, too
                assert crashing not in nodes_of_ready(fleet)
            else:
                wait_for(lambda: is_whole_without(fleet, crashing), "three pods on the other nodes", timeout_seconds=240)
            mended = time.time() - crash
        wait_for(lambda: len(nodes_of_ready(fleet)) == 3, "three pods are ready", timeout_seconds=240)
        time.sleep(3)
    print(f"{crashing}: {outcome}; {'still without it' if holds_store else 'whole again'} {mended:.0f} s after the crash")
    assert outcome.wrong == []
    assert len(outcome.failures) <= ASKERS, f"more failed than were in flight: {outcome}"
    assert all(began - crash < 2 for began, _, _ in outcome.failures), f"not in flight at the crash: {outcome}"
    assert longest_silence(outcome.seconds) < 10, "the other pods answered all the time"


def is_whole_without(fleet: Fleet, node: str) -> bool:
    found = nodes_of_ready(fleet)
    return len(found) == 3 and node not in found


def longest_silence(seconds: dict[str, int]) -> int:
    """Seconds between two in which there were answers."""
    known = sorted(map(int, seconds))
    return max(after - before for before, after in itertools.pairwise(known))
