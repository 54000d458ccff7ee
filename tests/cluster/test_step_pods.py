"""The compiled package, run pod by pod on the cluster to a published generation: images, commands, configuration, rights.

Kubeflow Pipelines cannot be had here; `kfp_driver.py` does with the package what its driver and Argo do. ServiceAccount,
ConfigMaps, NetworkPolicies and MLflow are the chart's.
"""

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from softprompt.cli import app
from softprompt.registry import Registration
from softprompt.registry_runs import recorded_run
from softprompt.release.care.init_channel import publishing_key_file
from softprompt.release.planning.policy import LAPTOP_POLICY
from softprompt.release.publish_prompt import PublishOutcome
from softprompt.release.reader import Reader
from softprompt.release.s3_client import s3_client
from softprompt.release.trust import load_trust_root
from tests.builders import colour_rows, write_jsonl, write_recipe
from tests.cluster.channel import Channel
from tests.cluster.fleet import CHART
from tests.cluster.kfp_driver import Package, PackageRun
from tests.cluster.kubernetes import Kubernetes, an_object
from tests.cluster.s3_users import WRITE, allow, as_environment, make_user
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster

IN_PODS = "http://s3.s3:7070"
STEPS = ["resolve-recipe", "validate-dataset", "tune-prompt", "evaluate-prompt", "register-prompt", "publish-prompt"]
PODS = """schema_version: 1
signing_keys: softprompt-signing
steps:
  resolve_recipe: {cpu_request: 100m, memory_request: 256Mi}
  validate_dataset: {cpu_request: 100m, memory_request: 256Mi, cpu_limit: "2", memory_limit: 3Gi}
  tune_prompt: {cpu_request: 100m, memory_request: 256Mi, cpu_limit: "2", memory_limit: 3Gi}
  evaluate_prompt: {cpu_request: 100m, memory_request: 256Mi, cpu_limit: "2", memory_limit: 3Gi}
  register_prompt: {cpu_request: 100m, memory_request: 256Mi}
  publish_prompt: {cpu_request: 100m, memory_request: 256Mi}
  explain_rejection: {cpu_request: 100m, memory_request: 256Mi}
"""
"""The usual pods, but that they ask for little: two processors are everything here."""


@pytest.fixture(scope="module")
def channel(kubernetes, llama_directory, tmp_path_factory) -> Channel:
    """A channel whose authority is `pipeline`, its base model, and a dataset, in a bucket of their own."""
    folder = tmp_path_factory.mktemp("channel")
    made = Channel.create(kubernetes.s3, folder, llama_directory)
    rows = write_jsonl(folder / "colours.jsonl", colour_rows())
    s3_client(kubernetes.s3).upload_file(str(rows), made.bucket, "data/colours.jsonl")
    return made


@pytest.fixture(scope="module")
def namespace(kubernetes, channel):
    """One under Pod Security `restricted` with the keys that its owner makes."""
    name = kubernetes.namespace(f"kfp-{uuid.uuid4().hex[:8]}")
    user = make_user(kubernetes.s3, "pipeline")
    # A training deletes checkpoints that it has better ones of, as `infra/terraform/policies/runs.json.tftpl` allows.
    allow(kubernetes.s3, channel.bucket, {user.access_key_id: (*WRITE, "s3:DeleteObject")})
    key = publishing_key_file(channel.folder / "keys", "laptop")
    kubernetes.apply(
        an_object("v1", "Secret", "softprompt-pipeline", namespace=name, stringData=as_environment(user)),
        an_object("v1", "Secret", "softprompt-signing", namespace=name, stringData={key.name: key.read_text()}),
    )
    yield name
    kubernetes.delete_namespace(name)


@pytest.fixture(scope="module")
def mlflow(kubernetes, images, namespace, channel) -> str:
    """The chart with a pipeline and an MLflow and nothing else; the MLflow's URL for this machine."""
    repository, _, tag = images.name("steps").rpartition(":")
    values = {
        "channel": "laptop",
        "store": {"uri": f"s3://{channel.bucket}", "endpoint": IN_PODS},
        "trustRoot": {"content": channel.trust_root.read_text()},
        "serving": {"enabled": False},
        "pipeline": {"enabled": True, "backend": "local", "policies": {"laptop": LAPTOP_POLICY}},
        "mlflow": {
            "enabled": True,
            "image": {"repository": repository, "tag": tag},
            "credentials": {"secret": "softprompt-pipeline"},
            "resources": {"requests": {"cpu": "10m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}},
        },
        "networkPolicy": {
            "store": {"peers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "s3"}}}], "ports": [7070]},
            "registryClients": [{"ipBlock": {"cidr": "10.99.0.0/24"}}],
        },
    }
    install(kubernetes, namespace, values)
    services = kubernetes.get("services", "--namespace", namespace)["items"]
    (address,) = (one["spec"]["clusterIP"] for one in services if one["spec"]["ports"][0]["port"] == 5000)
    install(kubernetes, namespace, values | {"mlflow": values["mlflow"] | {"hosts": [address]}})
    url = f"http://{address}:5000"
    wait_for(lambda: answers(url), "MLflow answers by its address", timeout_seconds=300, every_seconds=2)
    return url


def install(kubernetes: Kubernetes, namespace: str, values: dict) -> None:
    command = ("helm", "upgrade", "--install", "softprompt", CHART, "--namespace", namespace, "--values", "-")
    kubernetes.run(*command, given=values)


def answers(url: str) -> bool:
    try:
        reply = httpx.post(f"{url}/api/2.0/mlflow/experiments/search", json={"max_results": 1}, timeout=5)
    except httpx.HTTPError:
        return False
    return reply.status_code == 200


@pytest.fixture(scope="module")
def package(images, tmp_path_factory) -> Package:
    """What `softprompt compile` writes for this cluster."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "pods.yaml").write_text(PODS)
    options = ["--image", images.name("steps"), "--channel", "laptop", "--pods", str(folder / "pods.yaml")]
    done = CliRunner().invoke(app, ["compile", str(folder / "package.yaml"), *options])
    assert done.exit_code == 0, done.output
    return Package.read(folder / "package.yaml")


def a_run(kubernetes: Kubernetes, namespace: str, package: Package, channel: Channel) -> PackageRun:
    made = PackageRun(
        kubernetes=kubernetes,
        namespace=namespace,
        package=package,
        root=f"s3://{channel.bucket}/v2/artifacts",
        service_account="softprompt-pipeline",
        store=kubernetes.s3,
        store_in_pods=IN_PODS,
    )
    made.prepare()
    return made


def recipe_text(channel: Channel, folder: Path, *, floor: float = 0.01) -> str:
    dataset, base = f"s3://{channel.bucket}/data/colours.jsonl", f"s3://{channel.bucket}/bases/tiny"
    return write_recipe(folder / "recipe.yaml", base, dataset, floor=floor).read_text()


@pytest.fixture(scope="module")
def runs(kubernetes, namespace, mlflow, package, channel, tmp_path_factory) -> dict[str, PackageRun]:
    """The whole pipeline from a recipe's text to its end, twice at once: a prompt that passes, and one that does not."""
    folder = tmp_path_factory.mktemp("recipes")
    asked = {
        "passed": {"recipe": recipe_text(channel, folder)},
        "rejected": {"recipe": recipe_text(channel, folder, floor=1.0), "prompt_name": "never", "prompt_kind": "deep"},
    }
    made = {name: a_run(kubernetes, namespace, package, channel) for name in asked}
    with ThreadPoolExecutor() as pool:
        going = {name: pool.submit(made[name].go, parameters) for name, parameters in asked.items()}
        for name, done in going.items():
            made[name].done = done.result()
    return made


@pytest.fixture(scope="module")
def run(runs) -> PackageRun:
    """The one that ends in a published generation."""
    return runs["passed"]


def text_of(run: PackageRun, task: str, name: str) -> str:
    """What an artifact's file says."""
    return run.read(run.done[task].artifacts[name]["uri"]).decode()


@pytest.mark.short
def test_the_steps_run_in_order_to_a_published_generation(run, channel):
    assert list(run.done) == STEPS
    outcome = PublishOutcome.from_bytes(run.done["publish-prompt"].parameters["publication"].encode(), source="publication")
    assert (outcome.outcome, outcome.channel, outcome.generation) == ("published", "laptop", 2)
    state = channel.folder / "reader"
    reader = Reader(store=channel.store, channel="laptop", trust=load_trust_root(channel.trust_root), state_dir=state)
    served = reader.refresh().statement.state.prompts["colours"]
    assert {share.prompt for shares in served.bases.values() for share in shares} == {
        run.done["tune-prompt"].parameters["prompt_digest"]
    }
    print("\nseconds a step:", run.seconds)


def test_every_pod_is_what_the_package_says_and_was_admitted_under_restricted(run, images, package):
    for task in STEPS:
        pod = run.pods_of(task)[-1]
        (main,) = pod["spec"]["containers"]
        config = package.config(f"exec-{task}")
        assert main["image"].endswith(images.name("steps"))
        assert pod["spec"]["serviceAccountName"] == "softprompt-pipeline"
        assert pod["metadata"]["labels"].items() >= dict(config.pod_metadata.labels).items()
        assert main["securityContext"]["runAsNonRoot"] is True
        assert main["securityContext"]["runAsUser"] == 10001
        assert pod["spec"]["activeDeadlineSeconds"] == config.active_deadline_seconds
        assert main["args"][-1] == task.replace("-", "_"), "the function that the package names"
        assert "memory" in main["resources"]["limits"]


def test_only_the_step_that_publishes_had_the_signing_key(run):
    secrets = {
        task: {volume["secret"]["secretName"] for volume in run.pods_of(task)[-1]["spec"]["volumes"] if "secret" in volume}
        for task in STEPS
    }
    assert [task for task in STEPS if "softprompt-signing" in secrets[task]] == ["publish-prompt"]


def test_the_registry_knows_the_run_by_the_pipeline_s_run_id(run, mlflow):
    found = recorded_run(mlflow, "http://mlflow.example", run.run_id)
    assert found is not None
    assert (found.name, found.verdict, found.version) == ("colours", "passed", "1")
    assert found.prompt == run.done["tune-prompt"].parameters["prompt_digest"]
    registered = Registration.from_bytes(run.done["register-prompt"].parameters["registration"].encode(), source="registration")
    assert registered.run_id == found.run_id == run.done["tune-prompt"].parameters["mlflow_run"]


def test_what_a_person_looks_at_is_in_the_pipeline_root(run):
    assert run.done["evaluate-prompt"].parameters["verdict"] == "passed"
    for task, name in (
        ("validate-dataset", "dataset_report"),
        ("tune-prompt", "training_report"),
        ("evaluate-prompt", "report"),
    ):
        assert text_of(run, task, name).lstrip().lower().startswith("<!doctype html"), name
    assert re.search(r"\[MLflow run \w+\]\(http://\S+/#/experiments/\d+/runs/\w+\)", text_of(run, "tune-prompt", "mlflow"))
    assert "[Version colours@1](http://" in text_of(run, "register-prompt", "registry")
    assert text_of(run, "publish-prompt", "outcome").startswith("# laptop: published, generation 2")
    metadata = {name: run.done["evaluate-prompt"].artifacts[name]["metadata"] for name in ("metrics", "confusion_matrix")}
    assert metadata["metrics"]["soft_prompt accuracy"] > 0
    assert metadata["confusion_matrix"]["confusionMatrix"]["annotationSpecs"]


def test_every_step_left_its_log(run):
    for task in STEPS:
        logs = run.done[task].artifacts["executor-logs"]["uri"]
        assert logs.endswith("/executor-logs")
        assert f"[{task.replace('-', '_')}]" in text_of(run, task, "executor-logs")


def test_a_step_that_is_tried_again_after_it_succeeded_makes_nothing_new(run, channel):
    """As when a pod dies between its work and Argo's notice of it."""
    version = Registration.from_bytes(run.again("register-prompt").parameters["registration"].encode(), source="again").version
    assert version == "1"
    outcome = PublishOutcome.from_bytes(run.again("publish-prompt").parameters["publication"].encode(), source="again")
    assert (outcome.outcome, outcome.generation) == ("unchanged", 2)


def test_a_rejected_prompt_takes_the_other_branch(runs, mlflow):
    run = runs["rejected"]
    assert list(run.done) == [*STEPS[:-1], "explain-rejection"]
    assert "Rejected: nothing was published" in text_of(run, "explain-rejection", "reasons")
    found = recorded_run(mlflow, "", run.run_id)
    assert found is not None
    assert (found.verdict, found.version) == ("rejected", "")


def test_a_step_that_is_refused_fails_its_pod_and_says_why_in_its_log(kubernetes, namespace, mlflow, package, channel):
    run = a_run(kubernetes, namespace, package, channel)
    run.max_retries = 1
    with pytest.raises(AssertionError, match="resolve-recipe failed"):
        run.go({"recipe": "no-such-recipe"})
    assert [pod["status"]["phase"] for pod in run.pods_of("resolve-recipe")] == ["Failed", "Failed"]
    for pod in ("resolve-recipe", "resolve-recipe-1"):
        assert "There is no such recipe." in run.logs[pod]
