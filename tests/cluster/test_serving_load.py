"""Pods come and go under load, and clients that never ask again lose nothing: deleted, replaced, scaled; warm when ready."""

import contextlib
import dataclasses
import time
import uuid

import httpx
import pytest

from softprompt.release.layout import blob_key
from softprompt.release.s3_client import s3_client
from softprompt.release.store import S3Store
from tests.cluster.fleet import Fleet, prepare_namespace
from tests.cluster.load import load_from_here
from tests.serving_node import StatedChannel, name
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster

LITTLE = {"serving.resources.requests.cpu": "50m"}
CLIENTS = pytest.mark.parametrize("keeps", [True, False], ids=["clients that keep connections", "a connection for each request"])


@pytest.fixture(scope="module")
def place(kubernetes, images, channel):
    """A fleet that is not installed."""
    namespace = prepare_namespace(kubernetes, f"load-{uuid.uuid4().hex[:8]}", channel)
    yield Fleet(kubernetes, namespace, channel, images.name("serving"), values=LITTLE)
    kubernetes.delete_namespace(namespace)


@pytest.fixture(scope="module")
def fleet(place) -> Fleet:
    """Two pods that are ready."""
    return place.install(**{"serving.replicas": 2}).wait()


@contextlib.contextmanager
def nothing_is_lost(fleet, **options):
    """Load on a fleet while the block runs, and a moment longer; every request must have got its right answer."""
    with load_from_here(fleet, fleet.channel.prompt(seed=1), **options) as outcome:
        time.sleep(2)
        yield
        time.sleep(8)  # until the last pod that left has ended, too
    print(outcome)
    assert (outcome.failures, outcome.wrong) == ([], []), outcome
    assert outcome.num_answers > 50, "there was load"


@CLIENTS
def test_deleting_pods_under_load_loses_no_request(kubernetes, fleet, keeps):
    with nothing_is_lost(fleet, keeps=keeps):
        for pod in [pod["metadata"]["name"] for pod in fleet.pods()]:
            kubernetes.run("kubectl", "delete", "pod", pod, *fleet.here)
            fleet.wait()


@CLIENTS
def test_a_rolling_upgrade_under_load_loses_no_request(fleet, keeps):
    before = {pod["metadata"]["name"] for pod in fleet.pods()}
    with nothing_is_lost(fleet, keeps=keeps):
        fleet.install(**{"serving.replicas": 2, "serving.environment.UPGRADE": f"keeps-{keeps}"}).wait()
        wait_for(lambda: before.isdisjoint(names(fleet)), "the old pods are gone", timeout_seconds=120)


def names(fleet: Fleet) -> set[str]:
    return {pod["metadata"]["name"] for pod in fleet.pods()}


def test_the_autoscaler_adds_pods_under_load_and_takes_them_away(kubernetes, place):
    scaled = dataclasses.replace(place, name="softprompt-scaled")
    autoscaling = {"enabled": "true", "minReplicas": 1, "maxReplicas": 2, "cpuPercent": 60, "scaleDownSeconds": 15}
    scaled.install(**{f"serving.autoscaling.{key}": value for key, value in autoscaling.items()}).wait()

    def num_ready() -> int:
        return kubernetes.get("deployment", scaled.name, *scaled.here)["status"].get("readyReplicas", 0)

    wait_for(lambda: num_ready() == 1, "one pod is enough for nobody", timeout_seconds=180)
    with nothing_is_lost(scaled, pause_seconds=0):
        began = time.monotonic()
        wait_for(lambda: num_ready() == 2, "a second pod is ready", timeout_seconds=240)
        print(f"second pod ready {time.monotonic() - began:.0f} s after the load began")
    began = time.monotonic()
    wait_for(lambda: len(scaled.pods()) == 1, "one pod is enough again", timeout_seconds=300)
    print(f"second pod gone {time.monotonic() - began:.0f} s after the load ended")
    scaled.uninstall()


def test_a_pod_is_ready_only_when_its_pinned_prompt_is_verified_and_warm(kubernetes, place, tmp_path):
    """With one bit of its tensor wrong in the store no pod becomes ready; mended, it is warm before the first request."""
    client, bucket = s3_client(kubernetes.s3), place.channel.bucket
    stated = StatedChannel(tmp_path, S3Store(bucket, "live", client), place.channel.base)
    prompt = stated.prompt(1)
    stated.state({"colours": name(prompt, pinned=True)})
    key = "live/" + blob_key(next(part.sha256 for part in prompt.manifest.parts))
    good = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=good[:-1] + bytes([good[-1] ^ 1]))
    kubernetes.run("kubectl", "create", "configmap", "live", *place.here, f"--from-file=root.json={stated.trust_root}")
    live = dataclasses.replace(place, name="softprompt-live").install(
        **{"channel": "live", "store.uri": f"s3://{bucket}/live", "trustRoot.name": "live"}
    )

    def has_refused() -> bool:
        found = [status for pod in live.pods() for status in pod["status"].get("containerStatuses", [])]
        assert not any(status["ready"] for status in found), "it became ready with a prompt that does not verify"
        return any(status["restartCount"] for status in found)

    wait_for(has_refused, "the pod has refused the prompt", timeout_seconds=300, every_seconds=1)
    wait_for(lambda: live.has_said("sha256"), "it has said what is wrong", timeout_seconds=240, every_seconds=1)
    client.put_object(Bucket=bucket, Key=key, Body=good)
    live.wait()
    ready = httpx.get(f"{live.url}/readyz", timeout=30).json()
    assert (ready["status"], ready["pinned"], ready["cold"]) == ("ready", 1, 0)
    loads = _metric(live, "softprompt_cache_loads")
    asked = {"model": "colours", "prompt": "ruby", "max_tokens": 2}
    assert httpx.post(f"{live.url}/v1/completions", json=asked, timeout=30).status_code == 200
    assert _metric(live, "softprompt_cache_loads") == loads, "the first request had nothing to load"
    live.uninstall()


def _metric(fleet: Fleet, metric: str) -> float:
    lines = httpx.get(f"{fleet.url}/metrics", timeout=30).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{metric}") and not line.startswith("#")))
