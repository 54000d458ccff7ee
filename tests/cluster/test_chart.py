"""A release's life: admitted with every option, installed, asked, upgraded, rolled back, uninstalled without a trace."""

import json
import re
import uuid

import httpx
import pytest
import yaml

from tests.cluster.fleet import CHART, LAPTOP, Fleet, prepare_namespace
from tests.cluster.inventory import things_in, things_of_the_cluster
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def fleet(kubernetes, images, channel):
    """One that nobody has installed yet."""
    name = prepare_namespace(kubernetes, f"life-{uuid.uuid4().hex[:8]}", channel)
    # Cluster-wide objects too, named after the release; releases of other tests are called otherwise.
    yield Fleet(
        kubernetes, name, channel, images.name("serving"), name=f"softprompt-{name}", values={"priorityClasses.create": "true"}
    )
    kubernetes.delete_namespace(name)


def spec_of(fleet: Fleet) -> dict:
    return fleet.kubernetes.get("deployment", fleet.name, *fleet.here)["spec"]


def test_a_release_comes_and_goes_without_a_trace(fleet):
    """Installed, tested, upgraded to another generation of its values, rolled back, uninstalled."""
    kubernetes, run = fleet.kubernetes, fleet.kubernetes.run

    def everything() -> set[str]:
        return things_in(kubernetes, [fleet.namespace]) | things_of_the_cluster(kubernetes, fleet.name)

    before = everything()
    fleet.install().wait()
    assert {f"{fleet.namespace}/deployment.apps/{fleet.name}", f"PriorityClass/{fleet.name}-training"} <= everything()
    tested = run("helm", "test", fleet.name, *fleet.here, "--timeout", "2m", timeout_seconds=150)
    assert "Phase:          Succeeded" in tested
    metrics = httpx.get(f"{fleet.url}/metrics", timeout=30).text
    assert re.search(r'^softprompt_answers_total{.*prompt="colours"} 1.0$', metrics, re.MULTILINE), "the test really asked"

    first, answer = spec_of(fleet), fleet.classify("ruby").json()
    fleet.install(**{"serving.replicas": 2, "serving.drainSeconds": 7, "serving.service.port": 8000}).wait()
    second = spec_of(fleet)
    assert (second["replicas"], second["template"]["spec"]["terminationGracePeriodSeconds"]) == (2, 17)
    run("helm", "rollback", fleet.name, "1", *fleet.here)
    fleet.wait()
    assert spec_of(fleet) == first
    assert fleet.classify("ruby").json()["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-6)

    fleet.uninstall()
    wait_for(lambda: everything() == before, "nothing is left", timeout_seconds=90, every_seconds=2)


def test_a_test_of_a_prompt_that_is_not_there_fails_and_says_so(fleet):
    fleet.install(**{"test.prompt": "shapes"}).wait()
    done = fleet.kubernetes.attempt("helm", "test", fleet.name, *fleet.here, "--timeout", "2m", timeout_seconds=150)
    assert done.returncode != 0
    [status] = fleet.kubernetes.get("pod", f"{fleet.name}-test", *fleet.here)["status"]["containerStatuses"]
    assert "it does not offer shapes" in status["state"]["terminated"]["message"]
    fleet.uninstall()
    left = things_in(fleet.kubernetes, [fleet.namespace])
    assert f"{fleet.namespace}/pod/{fleet.name}-test" in left, "a test that failed can be read afterwards"


EVERYTHING = {
    "serving": {"autoscaling": {"enabled": True}, "tokens": {"secret": "tokens"}},
    "trustRoot": {"content": "{}"},
    "reconciler": {
        "enabled": True,
        "git": {"remote": "https://git.example/prompts.git", "credentialsSecret": "git"},
        "signingKey": {"secret": "key"},
    },
    "pipeline": {
        "enabled": True,
        "kfpLauncher": {"create": True, "pipelineRoot": "s3://softprompt/kfp", "secret": "softprompt-pipeline"},
        "resourceQuota": {"pods": 10},
        "policies": {"staging": "authority: pipeline"},
        "secretEnvironment": {"HF_TOKEN": "x"},
    },
    "mlflow": {"enabled": True},
    "priorityClasses": {"create": True},
    "networkPolicy": {"wholeNamespaces": True, "monitoring": [{"namespaceSelector": {}}]},
    "monitoring": {"dashboard": {"enabled": True}},
}
"""Every option whose objects are Kubernetes' own."""


def test_the_api_server_admits_every_object_of_every_option(kubernetes):
    """A dry run on the server, strict: no field is unknown to it, nothing violates its rules."""
    mark = uuid.uuid4().hex[:6]
    fleet, runs, release = (kubernetes.namespace(f"admit-{part}-{mark}") for part in ("fleet", "runs", "release"))
    values = json.loads(json.dumps(EVERYTHING))
    values["pipeline"]["namespace"], values["reconciler"]["namespace"] = runs, release
    objects = yaml.safe_load_all(
        kubernetes.run(
            *("helm", "template", f"softprompt-{mark}", CHART, "--namespace", fleet, "--kube-version", "1.34"),
            *("--values", LAPTOP, "--values", "-"),
            given=values,
        )
    )
    items = [found for found in objects if found]
    said = kubernetes.run(
        "kubectl",
        "apply",
        "--dry-run=server",
        "--validate=strict",
        "--filename",
        "-",
        given={"apiVersion": "v1", "kind": "List", "items": items},
    )
    admitted = [line.partition("/")[0] for line in said.splitlines() if line.endswith("(server dry run)")]
    assert len(admitted) == len(items) > 50
    assert {
        "horizontalpodautoscaler.autoscaling",
        "persistentvolumeclaim",
        "rolebinding.rbac.authorization.k8s.io",
        "pod",
    } <= set(admitted)
    for name in (fleet, runs, release):
        kubernetes.delete_namespace(name)
