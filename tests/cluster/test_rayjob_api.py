"""How a step's side talks to a real API server about RayJobs: made once, adopted, watched, deleted by their owner only.

The RayJob is suspended, so that no Ray pod is started for it.
"""

import os
import time
import uuid

import pytest

from softprompt.rayjob.cluster import Cluster, StepPod, owners_of
from softprompt.rayjob.manifest import Plan, ray_job
from softprompt.rayjob.settings import RayJobSettings
from tests.cluster.kubernetes import an_object, restricted
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster
NAME = "tune-prompt-0123abcd-000000000000"


@pytest.fixture(scope="module")
def cluster(kubernetes):
    from kubernetes import client, config

    config.load_kube_config(kubernetes.environment.get("KUBECONFIG") or os.environ.get("KUBECONFIG"))
    namespace = kubernetes.namespace(f"rayjob-api-{uuid.uuid4().hex[:6]}")
    yield Cluster(namespace, client.CustomObjectsApi(), client.CoreV1Api())
    kubernetes.delete_namespace(namespace)


@pytest.fixture
def step_pod(kubernetes, cluster, monkeypatch):
    """A function: name -> a step's pod, which need not run to own something."""

    def make(name):
        container = restricted(name="main", image="registry.example/steps@sha256:00", command=["true"])
        spec = {"containers": [container], "schedulerName": "nobody"}
        labels = {"pipeline/runid": "0123abcd-4567"}
        kubernetes.apply(an_object("v1", "Pod", name, namespace=cluster.namespace, labels=labels, spec=spec))
        monkeypatch.setenv("KFP_POD_NAME", name)
        return cluster.own_pod()

    return make


def job_of(pod: StepPod):
    plan = Plan(
        name=NAME,
        owner=pod.owner,
        image=pod.image,
        step="tune_prompt",
        run=pod.run,
        workers=(1, 2),
        arguments=("s3://b/c", NAME, "f" * 64),
        settings=RayJobSettings(queue="nowhere"),
    )
    return ray_job(plan)


def test_a_rayjob_outlives_the_pod_that_lost_it_and_goes_with_the_one_that_has_it(kubernetes, cluster, step_pod):
    remove = lambda pod: kubernetes.run("kubectl", "delete", "pod", pod, "--namespace", cluster.namespace, "--now")
    first = step_pod("first")
    assert (first.image, first.run) == ("registry.example/steps@sha256:00", "0123abcd-4567")
    assert cluster.get(NAME) is None
    assert cluster.create(job_of(first))
    assert not cluster.create(job_of(first)), "there is one"
    look = lambda: cluster.get(NAME)
    is_taken = lambda: look().get("status", {}).get("jobDeploymentStatus") == "Suspended"
    wait_for(is_taken, "KubeRay has taken it", timeout_seconds=60)
    assert [found["metadata"]["uid"] for found in cluster.changes(NAME, 1)] == [look()["metadata"]["uid"]]

    old, second = look(), step_pod("second")
    assert cluster.own(old, second.owner)
    assert not cluster.own(old, first.owner), "it has changed since"
    remove("first")
    cluster.delete(NAME, owner=first.uid)
    time.sleep(5)  # the garbage collector had time to look
    assert owners_of(look()) == [second.uid]
    assert look()["metadata"]["uid"] == old["metadata"]["uid"]

    remove("second")
    wait_for(lambda: look() is None, "it has gone with the pod that had it", timeout_seconds=90)
    assert list(cluster.changes(NAME, 1)) == []


def test_its_own_pod_may_delete_it_and_twice(cluster, step_pod):
    pod = step_pod("third")
    assert cluster.create(job_of(pod))
    cluster.delete(NAME, owner=pod.uid)
    wait_for(lambda: cluster.get(NAME) is None, "it is gone", timeout_seconds=60)
    cluster.delete(NAME, owner=pod.uid)
