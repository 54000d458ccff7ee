"""The RayJob that a step makes, before any API server has seen it; `tests/cluster/test_rayjob.py` has a real one admit it."""

import itertools
import json
import lzma
from pathlib import Path

import jsonschema
import pytest
import yaml
from kfp.dsl import TaskConfig

from softprompt.errors import InvalidRequest
from softprompt.rayjob.manifest import QUEUE_LABEL, ray_job, workers_of
from softprompt.rayjob.settings import RayJobSettings
from softprompt.rayjob.task import TaskSettings

DEFINITIONS = Path(__file__).resolve().parents[4] / "shared" / "cluster" / "bin" / "kuberay.yaml.xz"
GPU = {"limits": {"nvidia.com/gpu": "1", "cpu": "8", "memory": "64Gi"}, "requests": {"cpu": "6"}}
TASK = TaskConfig(
    resources=GPU,
    tolerations=[{"key": "spot", "operator": "Exists"}],
    node_selector={"pool": "gpu"},
    affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
    env=[
        {"name": "NCCL_DEBUG", "value": "INFO"},
        {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "s"}}},
    ],
    volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    volume_mounts=[{"name": "data", "mountPath": "/data"}],
)


def pods(job):
    cluster = job["spec"]["rayClusterSpec"]
    return {
        "head": cluster["headGroupSpec"]["template"],
        "worker": cluster["workerGroupSpecs"][0]["template"],
        "submitter": job["spec"]["submitterPodTemplate"],
    }


def containers(pod):
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def environment(container):
    return {entry["name"]: entry for entry in container["env"]}


def test_every_pod_keeps_to_pod_security_restricted_and_writes_to_its_own_volumes_only(plan):
    for pod in pods(ray_job(plan(task=TaskSettings.of(TASK)))).values():
        assert pod["spec"]["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        for container in containers(pod):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["readOnlyRootFilesystem"] is True
            assert security["runAsNonRoot"] is True
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}
            assert {"name": "softprompt-tmp", "mountPath": "/tmp"} in container["volumeMounts"]


def test_every_pod_is_a_trainers_and_asks_nothing_of_the_kubernetes_api(plan):
    job = ray_job(plan())
    for pod in pods(job).values():
        labels = pod["metadata"]["labels"]
        assert labels == {
            "app.kubernetes.io/part-of": "softprompt",
            "softprompt.dev/duty": "trainer",
            "softprompt.dev/step": "tune-prompt",
            "softprompt.dev/run": "0123abcd-4567",
        }
        assert pod["spec"]["serviceAccountName"] == "softprompt-trainer"
        assert pod["spec"]["automountServiceAccountToken"] is False
    assert job["metadata"]["labels"] == labels


def test_it_ends_belongs_to_the_step_asks_for_tokens_and_leaves_no_cluster_behind(plan):
    job = ray_job(plan(settings=RayJobSettings(deadline_seconds=100, start_seconds=50, retries=5, ttl_seconds=7)))
    spec = job["spec"]
    assert job["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", "name": "step-1", "uid": "uid-1"}]
    assert (spec["shutdownAfterJobFinishes"], spec["ttlSecondsAfterFinished"]) == (True, 7)
    assert (spec["activeDeadlineSeconds"], spec["preRunningDeadlineSeconds"], spec["backoffLimit"]) == (100, 50, 5)
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert spec["rayClusterSpec"]["rayVersion"]
    assert spec["suspend"] is False
    assert QUEUE_LABEL not in job["metadata"]["labels"]


def test_with_a_queue_kueue_starts_it(plan):
    job = ray_job(plan(settings=RayJobSettings(queue="gpus", priority_class="batch")))
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"][QUEUE_LABEL] == "gpus"
    assert {pod["spec"]["priorityClassName"] for pod in pods(job).values()} == {"batch"}


def test_what_is_set_on_the_task_reaches_the_workers_and_the_head_only_what_it_can_use(plan):
    found = pods(ray_job(plan(task=TaskSettings.of(TASK))))
    worker, head = found["worker"]["spec"], found["head"]["spec"]
    assert worker["containers"][0]["resources"] == GPU
    assert worker["initContainers"][0]["resources"] == {"limits": {"cpu": "8", "memory": "64Gi"}, "requests": {"cpu": "6"}}
    assert (worker["tolerations"], worker["nodeSelector"]) == (TASK.tolerations, TASK.node_selector)
    assert worker["affinity"] == TASK.affinity
    assert not {"tolerations", "nodeSelector", "affinity"} & set(head), "whoever loses the head loses all"
    assert head["containers"][0]["resources"]["limits"] == {"memory": "4Gi"}
    for spec in (worker, head):
        assert TASK.volumes[0] in spec["volumes"]
        assert TASK.volume_mounts[0] in spec["containers"][0]["volumeMounts"]
        given = environment(spec["containers"][0])
        assert given["NCCL_DEBUG"]["value"] == "INFO"
        assert given["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "mine", "the task's counts most"


def test_the_steps_own_temporary_folder_is_not_mounted_over_rays(plan):
    mounts = [{"name": "scratch", "mountPath": "/tmp/"}, {"name": "shared-memory", "mountPath": "/dev/shm"}]
    found = pods(ray_job(plan(task=TaskSettings.of(TaskConfig(volume_mounts=mounts)))))
    paths = [mount["mountPath"] for mount in found["worker"]["spec"]["containers"][0]["volumeMounts"]]
    assert paths == ["/tmp", "/dev/shm"]


@pytest.mark.parametrize("config", [None, TaskConfig(), TaskConfig(resources={"limits": None, "requests": None})])
def test_without_anything_on_the_task_the_deployments_sizes_hold(plan, config):
    settings = RayJobSettings(cpu="100m", memory="1Gi")
    found = pods(ray_job(plan(task=TaskSettings.of(config), settings=settings)))
    resources = found["worker"]["spec"]["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}


@pytest.mark.parametrize(
    ("settings", "task", "threads"),
    [
        (RayJobSettings(cpu="100m"), {}, "1"),
        (RayJobSettings(cpu="3500m"), {}, "3"),
        (RayJobSettings(cpu="1"), {"resources": GPU}, "6"),
        (RayJobSettings(num_cpus=2), {"resources": GPU}, "2"),
        (RayJobSettings(), {"env": [{"name": "OMP_NUM_THREADS", "value": "4"}]}, "4"),
    ],
)
def test_a_worker_computes_with_the_processors_that_it_asked_for(plan, settings, task, threads):
    found = pods(ray_job(plan(settings=settings, task=TaskSettings.of(TaskConfig(**task)))))
    for pod in (found["head"], found["worker"]):
        assert environment(pod["spec"]["containers"][0])["OMP_NUM_THREADS"]["value"] == threads


def test_one_worker_of_a_training_fills_a_pod_and_the_head_offers_nothing(plan):
    cluster = ray_job(plan(task=TaskSettings.of(TASK)))["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["workerGroupSpecs"][0]["rayStartParams"]["num-cpus"] == "1"


def test_ray_data_gets_all_processors_and_never_less_than_its_two_stages_need(plan):
    for task, num_cpus in ((TASK, "6"), (None, "2")):
        job = ray_job(plan(step="validate_dataset", task=TaskSettings.of(task)))
        assert job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["rayStartParams"]["num-cpus"] == num_cpus


def test_a_fixed_number_of_workers_does_not_grow_and_a_pair_does(plan):
    fixed, grows = (ray_job(plan(workers=pair))["spec"]["rayClusterSpec"] for pair in ((2, 2), (2, 5)))
    assert [fixed["workerGroupSpecs"][0][key] for key in ("replicas", "minReplicas", "maxReplicas")] == [2, 2, 2]
    assert [grows["workerGroupSpecs"][0][key] for key in ("replicas", "minReplicas", "maxReplicas")] == [2, 2, 5]
    assert (fixed["enableInTreeAutoscaling"], grows["enableInTreeAutoscaling"]) == (False, True)
    assert "autoscalerOptions" not in fixed
    assert grows["autoscalerOptions"]["securityContext"]["readOnlyRootFilesystem"] is True
    assert grows["headGroupSpec"]["template"]["spec"]["automountServiceAccountToken"] is True, "the autoscaler asks for pods"


def test_a_training_has_as_many_workers_as_its_recipe_says_and_other_steps_as_the_deployment(ask):
    settings = RayJobSettings(min_workers=3, max_workers=4)
    assert workers_of(ask(num_workers=2), settings) == (2, 2)
    assert workers_of(ask(num_workers=(1, 6)), settings) == (1, 6)
    assert workers_of(ask("evaluate_prompt"), settings) == (3, 4)


def test_keys_are_named_and_never_written_down(plan):
    secrets = {"AWS_SECRET_ACCESS_KEY": "s3cret", "MLFLOW_TRACKING_PASSWORD": "s3cret", "GIT_TOKEN": "s3cret"}
    known = {"AWS_ENDPOINT_URL_S3": "http://s3", "MLFLOW_TRACKING_URI": "http://mlflow", "HOME": "/root"}
    job = ray_job(plan(environment=secrets | known))
    assert "s3cret" not in json.dumps(job)
    given = environment(pods(job)["worker"]["spec"]["containers"][0])
    assert given["AWS_ENDPOINT_URL_S3"]["value"] == "http://s3"
    assert given["MLFLOW_TRACKING_PASSWORD"]["valueFrom"]["secretKeyRef"] == {
        "name": "softprompt-pipeline",
        "key": "MLFLOW_TRACKING_PASSWORD",
        "optional": True,
    }
    assert not {"GIT_TOKEN", "HOME"} & set(given)


def test_the_head_and_the_workers_bring_the_inputs_there_before_ray_starts(plan):
    job = ray_job(plan())
    name = "tune-prompt-0123abcd-000000000000"
    for kind in ("head", "worker"):
        (first,) = pods(job)[kind]["spec"]["initContainers"]
        assert first["command"] == ["python3", "-m", "softprompt.rayjob.prepare", "s3://b/c", name, "f" * 64]
    assert job["spec"]["entrypoint"] == f"python3 -m softprompt.rayjob.entry s3://b/c {name} {'f' * 64}"


def test_a_size_that_is_none_is_refused(plan):
    task = TaskSettings.of(TaskConfig(resources={"limits": {"cpu": "many"}}))
    with pytest.raises(InvalidRequest, match="no quantity"):
        ray_job(plan(task=task))


@pytest.mark.skipif(not DEFINITIONS.is_file(), reason="the CustomResourceDefinitions of KubeRay are not on this machine")
def test_kuberays_own_schema_knows_every_key(plan):
    documents = lzma.decompress(DEFINITIONS.read_bytes()).split(b"\n---")
    (text,) = [text for text in documents if b"\n  name: rayjobs.ray.io\n" in text]
    definition = yaml.load(text, yaml.CSafeLoader)
    (schema,) = [v["schema"]["openAPIV3Schema"] for v in definition["spec"]["versions"] if v["name"] == "v1"]
    settings = RayJobSettings(queue="gpus", priority_class="batch")
    for step, workers in itertools.product(("tune_prompt", "validate_dataset", "evaluate_prompt"), ((2, 2), (1, 3))):
        job = ray_job(plan(step=step, workers=workers, task=TaskSettings.of(TASK), settings=settings))
        assert [error.message for error in jsonschema.Draft202012Validator(closed(schema)).iter_errors(job)] == []


def closed(schema):
    """The schema with unknown keys refused, which an API server only drops; metadata and free maps stay open."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        made["additionalProperties"] = False
    return made
