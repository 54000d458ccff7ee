"""A fleet of the chart, under Pod Security `restricted`: ready, answering, taking over new prompts, asked by whom it names."""

import dataclasses
import uuid

import httpx
import pytest

from softprompt.base_model import load_base_model
from softprompt.fetch import fetch_base
from softprompt.release.s3_client import s3_client
from softprompt.release.store import S3Store
from tests import laptop_channel
from tests.cluster.fleet import Fleet, prepare_namespace, trust_root_object
from tests.cluster.kubernetes import an_object, restricted
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def namespace(kubernetes, channel):
    name = prepare_namespace(kubernetes, f"serving-{uuid.uuid4().hex[:8]}", channel)
    yield name
    kubernetes.delete_namespace(name)


@pytest.fixture(scope="module")
def fleet(kubernetes, images, namespace, channel) -> Fleet:
    """One that is ready."""
    return Fleet(kubernetes, namespace, channel, images.name("serving")).install().wait()


@pytest.mark.short
def test_a_fleet_under_pod_security_restricted_answers_as_this_process_does(fleet, channel):
    assert [model["id"] for model in httpx.get(f"{fleet.url}/v1/models", timeout=30).json()["data"]] == ["colours"]
    reply = fleet.classify("ruby")
    assert reply.headers["x-softprompt-digest"] == f"sha256:{channel.prompt(seed=1).digest}"
    assert reply.json()["probabilities"] == pytest.approx(channel.answer_here(channel.prompt(seed=1), "ruby"), abs=1e-4)
    unknown = httpx.post(f"{fleet.url}/v1/completions", json={"model": "base", "prompt": "ruby"}, timeout=30)
    assert unknown.status_code == 404


@pytest.mark.short
def test_a_published_prompt_is_swapped_in_without_a_restart(fleet, channel):
    new = channel.prompt(seed=2)
    generation = channel.publish(new)

    def served():
        reply = fleet.classify("ruby")
        return reply.headers["x-softprompt-digest"].endswith(new.digest) and reply

    reply = wait_for(served, "the new prompt is served", timeout_seconds=60)
    assert reply.headers["x-softprompt-generation"] == str(generation)
    assert reply.json()["probabilities"] == pytest.approx(channel.answer_here(new, "ruby"), abs=1e-4)
    assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in fleet.pods()] == [0]


def test_another_fleet_serves_the_same_channel_on_the_base_model_that_is_in_the_image(fleet, channel):
    embedded = dataclasses.replace(channel, base=load_base_model(fetch_base("embedded://base")))
    prompt = embedded.prompt(seed=3)
    embedded.publish(prompt)
    other = dataclasses.replace(fleet, name="softprompt-embedded", values={"serving.baseModel.uri": "embedded://base"})
    reply = other.install().wait().classify("ruby")
    assert reply.headers["x-softprompt-digest"] == f"sha256:{prompt.digest}"
    assert reply.json()["probabilities"] == pytest.approx(embedded.answer_here(prompt, "ruby"), abs=1e-4)
    other.uninstall()


ASK_FROM_A_POD = """
import sys, time, urllib.request
for _ in range(8):  # policies take effect a little late
    try:
        urllib.request.urlopen(sys.argv[1] + "/v1/models", timeout=2)
        sys.exit(0)
    except OSError as error:
        time.sleep(0.5)
sys.exit(str(error))
"""


def test_only_named_clients_reach_the_pods(kubernetes, fleet):
    outcomes = {}
    for name, labels in (("friend", {"may": "ask"}), ("stranger", {})):
        kubernetes.apply(asking_pod(name, fleet, labels))
        outcomes[name] = kubernetes.phase_at_end(name, fleet.namespace)
    assert outcomes == {"friend": "Succeeded", "stranger": "Failed"}


def asking_pod(name: str, fleet: Fleet, labels: dict[str, str]) -> dict:
    container = restricted(name="ask", image=fleet.image, command=["python3", "-c", ASK_FROM_A_POD, fleet.url])
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    return an_object("v1", "Pod", name, namespace=fleet.namespace, labels=labels, spec=spec)


def test_a_node_that_may_believe_nobody_is_never_ready_and_says_why(kubernetes, fleet, tmp_path):
    """Its trust root knows a channel of the same name, but with other keys."""
    bucket = f"other-{uuid.uuid4().hex[:12]}"
    client = s3_client(kubernetes.s3)
    client.create_bucket(Bucket=bucket)
    laptop_channel.begin(tmp_path, S3Store(bucket, "", client))
    kubernetes.apply(trust_root_object(fleet.namespace, "other-trust-root", tmp_path / "root.json"))
    doubting = dataclasses.replace(fleet, name="softprompt-doubting", values={"trustRoot.name": "other-trust-root"}).install()

    def has_ended():
        found = [status for pod in doubting.pods() for status in pod["status"].get("containerStatuses", [])]
        assert not any(container["ready"] for container in found)
        return any(container["restartCount"] for container in found)

    wait_for(has_ended, "the container has ended", timeout_seconds=300, every_seconds=1)
    why = "The channel has no generation that this node may serve."
    wait_for(lambda: doubting.has_said(why), "it has said why", timeout_seconds=240, every_seconds=1)
    doubting.uninstall()
