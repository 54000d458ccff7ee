"""A pod may do exactly what its role says: each duty's own token, every verb of every resource, its own namespace and others."""

import time
import uuid

import pytest

from tests.cluster.api_rights import Api
from tests.cluster.kubernetes import an_object, restricted
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster
ACCOUNTS = {
    "reader": "softprompt",
    "reconciler": "softprompt-reconciler",
    "pipeline": "softprompt-pipeline",
    "trainer": "softprompt-trainer",
    "registry": "softprompt-registry",
}
RAYJOBS = {(verb, "rayjobs.ray.io") for verb in ("create", "get", "list", "watch", "patch", "delete")}
PODS = {("get", "pods"), ("list", "pods"), ("watch", "pods"), ("get", "pods/log")}
MAY = {"pipeline": RAYJOBS | PODS}
"""Duty -> what it may do in its own namespace; the others nothing. In other namespaces and in the cluster nobody may anything."""


def api_of(whole_release, duty: str) -> Api:
    return Api.as_account(whole_release.kubernetes, ACCOUNTS[duty], whole_release.namespace_of(duty))


@pytest.mark.parametrize("duty", ACCOUNTS)
def test_a_token_may_do_exactly_what_its_role_says(whole_release, duty):
    api, home = api_of(whole_release, duty), whole_release.namespace_of(duty)
    assert len([found for found in api.resources if found.is_namespaced]) > 50, "there is something to be refused"
    assert set(api.rights(home)) == MAY.get(duty, set())
    for namespace in {*whole_release.namespaces.values(), "default", "kube-system", "s3"} - {home}:
        assert set(api.rights(namespace)) == set(), namespace
    assert set(api.rights("")) == set(), "cluster-wide"


def test_kfps_launcher_reads_its_configuration_and_its_keys_by_name_and_no_others(whole_release):
    api, runs = api_of(whole_release, "pipeline"), whole_release.namespaces["runs"]
    secrets, config_maps = api.resource("secrets"), api.resource("configmaps")
    assert api.may("get", secrets, runs, "softprompt-pipeline")
    assert api.may("get", config_maps, runs, "kfp-launcher")
    assert not api.may("get", config_maps, runs, "softprompt-pipeline")
    whole_release.kubernetes.apply(an_object("v1", "Secret", "beside", namespace=runs, stringData={"word": "swordfish"}))
    assert not api.may("get", secrets, runs, "beside")
    assert not api.may("patch", secrets, runs, "softprompt-pipeline")
    for namespace, name in (("release", "softprompt-key"), ("fleet", "softprompt-reader")):
        assert not api.may("get", secrets, whole_release.namespaces[namespace], name)


def a_rayjob(name: str, namespace: str, image: str, secret: str) -> dict:
    """One whose head reads a Secret before Ray starts, and says what it read."""
    reading = restricted(
        name="read",
        image=image,
        command=["sh", "-c", "cat /beside/* > /dev/termination-log"],
        volumeMounts=[{"name": "beside", "mountPath": "/beside"}],
        resources={"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
    )
    head = restricted(name="ray-head", image=image, command=["sleep", "600"], resources=reading["resources"])
    spec = {
        "initContainers": [reading],
        "containers": [head],
        "volumes": [{"name": "beside", "secret": {"secretName": secret}}],
        "automountServiceAccountToken": False,
    }
    template = {"metadata": {"labels": {"reads": name}}, "spec": spec}
    cluster = {"headGroupSpec": {"rayStartParams": {}, "template": template}}
    return an_object("ray.io/v1", "RayJob", name, namespace=namespace, spec={"entrypoint": "true", "rayClusterSpec": cluster})


def run_as_a_step(whole_release, name: str, secret: str) -> None:
    """A step of a KFP run, with its own token, makes a RayJob whose head mounts a Secret."""
    runs = whole_release.namespaces["runs"]
    job = a_rayjob(name, runs, whole_release.images.name("release"), secret)
    api = api_of(whole_release, "pipeline")
    path = api.resource("rayjobs.ray.io").path(runs, "create")
    reply = api.client.post(path, json=job)
    assert reply.status_code == 201, reply.text


def events(whole_release, name: str) -> str:
    """What Kubernetes says of the pods of such a RayJob."""
    kubernetes, runs = whole_release.kubernetes, whole_release.namespaces["runs"]
    names = [pod["metadata"]["name"] for pod in kubernetes.pods(runs, f"reads={name}")]
    found = kubernetes.get("events", "--namespace", runs)["items"]
    return "\n".join(event["message"] for event in found if event["involvedObject"]["name"] in names)


def test_no_step_of_a_run_reaches_the_signing_key_though_it_reaches_every_secret_beside_it(whole_release):
    """The danger is real, so the key lies elsewhere: whoever may create RayJobs may mount every Secret of the namespace."""
    kubernetes, runs = whole_release.kubernetes, whole_release.namespaces["runs"]
    word = uuid.uuid4().hex
    kubernetes.apply(an_object("v1", "Secret", "beside", namespace=runs, stringData={"word": word}))
    run_as_a_step(whole_release, "reads-beside", "beside")
    run_as_a_step(whole_release, "reads-key", "softprompt-key")

    def read() -> list[str]:
        """What the first RayJob's head has read."""
        statuses = [
            status for pod in kubernetes.pods(runs, "reads=reads-beside") for status in pod["status"]["initContainerStatuses"]
        ]
        return [status["state"].get("terminated", {}).get("message", "") for status in statuses if status["name"] == "read"]

    wait_for(lambda: word in read(), "a RayJob reads a Secret of its own namespace", timeout_seconds=90)
    missing = 'secret "softprompt-key" not found'
    wait_for(
        lambda: missing in events(whole_release, "reads-key"), "a RayJob that wants the key waits for it", timeout_seconds=90
    )
    [pod] = kubernetes.pods(runs, "reads=reads-key")
    assert not any("running" in status["state"] for status in pod["status"].get("containerStatuses", []))
    api = api_of(whole_release, "pipeline")
    for name in ("reads-beside", "reads-key"):
        assert api.client.delete(api.resource("rayjobs.ray.io").path(runs, "delete", name)).status_code == 200


def test_the_reconciler_has_the_key_that_no_step_has(whole_release):
    release = whole_release.namespaces["release"]
    command = ("kubectl", "exec", "deployment/softprompt-reconciler", "--namespace", release, "--")
    assert whole_release.kubernetes.run(*command, "head", "-1", "/etc/softprompt/keys/publish-laptop.pem").startswith(
        "-----BEGIN"
    )


def test_a_step_sees_its_rayjob_through(whole_release):
    """Made, suspended and resumed, watched, deleted, with a step's own token."""
    api, runs = api_of(whole_release, "pipeline"), whole_release.namespaces["runs"]
    rayjobs = api.resource("rayjobs.ray.io")
    job = a_rayjob("seen-through", runs, whole_release.images.name("release"), "beside")
    job["spec"] |= {"suspend": True, "shutdownAfterJobFinishes": True}
    assert api.client.post(rayjobs.path(runs, "create"), json=job).status_code == 201
    one = rayjobs.path(runs, "get", "seen-through")

    def status() -> str:
        return api.client.get(one).json().get("status", {}).get("jobDeploymentStatus", "")

    wait_for(lambda: status() == "Suspended", "the operator has suspended it", timeout_seconds=60)
    patch = {"metadata": {"annotations": {"seen": str(time.time())}}}
    headers = {"Content-Type": "application/merge-patch+json"}
    assert (
        api.client.patch(one, json=patch, headers=headers).json()["metadata"]["annotations"] == patch["metadata"]["annotations"]
    )
    watched = api.client.get(rayjobs.path(runs, "watch"), params={"watch": "true", "timeoutSeconds": 1}).text
    assert '"seen-through"' in watched
    assert api.client.delete(one).status_code == 200
    wait_for(lambda: api.client.get(one).status_code == 404, "it is gone", timeout_seconds=30)
