"""The RayJob that a step makes, as a Kubernetes object."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from softprompt.rayjob.pods import (
    CONTAINER_SECURITY,
    WRITABLE,
    environment_of,
    num_threads,
    ray_pod,
    sized,
    submitter_pod,
    worker_resources,
)
from softprompt.rayjob.settings import RayJobSettings
from softprompt.rayjob.task import Fragment, TaskSettings
from softprompt.step_request import HeavyStep, StepRequest

API_VERSION, GROUP, VERSION, PLURAL = "ray.io/v1", "ray.io", "v1", "rayjobs"
DUTY_LABELS = {"app.kubernetes.io/part-of": "softprompt", "softprompt.dev/duty": "trainer"}
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
SUBMITTER_RETRIES = 1
"""A submitter that was lost reads the log again, and the training does not notice. When it is the head that was lost, each of its
tries is waited for before there is another Ray cluster."""
OBJECT_STORE_BYTES: dict[HeavyStep, int] = {
    "validate_dataset": 512 * 2**20,
    "tune_prompt": 80 * 2**20,
    "evaluate_prompt": 256 * 2**20,
}
"""Of each Ray pod; Ray's default is a third of its memory."""
KEEP_HEAD = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
"""Node autoscalers that tidy up leave the head alone; with it goes the whole cluster."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a RayJob follows from.

    Attributes:
        name: The RayJob's.
        owner: An owner reference: the step's pod.
        image: Of the Ray pods.
        step: Whose work it does.
        run: Of the pipeline, for people.
        workers: Least and most worker pods.
        arguments: Of `softprompt.rayjob.entry` and `softprompt.rayjob.prepare`.
        settings: The deployment's.
        task: What was set on the task.
        environment: The step's own.
    """

    name: str
    owner: Fragment
    image: str
    step: HeavyStep
    run: str
    workers: tuple[int, int]
    arguments: tuple[str, ...]
    settings: RayJobSettings
    task: TaskSettings = field(default_factory=TaskSettings)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """Of the RayJob and of all its pods."""
        run = {"softprompt.dev/run": self.run} if self.run else {}
        return DUTY_LABELS | {"softprompt.dev/step": self.step.replace("_", "-")} | run


def workers_of(request: StepRequest, settings: RayJobSettings) -> tuple[int, int]:
    """Least and most worker pods: of a training as many as the recipe says, one worker a pod."""
    if request.step != "tune_prompt":
        return settings.min_workers, settings.max_workers
    count = request.resolved.recipe.training.num_workers
    return (count, count) if isinstance(count, int) else count


def ray_job(plan: Plan) -> Fragment:
    """The RayJob of a plan."""
    settings = plan.settings
    queue = {QUEUE_LABEL: settings.queue} if settings.queue else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "RayJob",
        "metadata": {"name": plan.name, "labels": plan.labels | queue, "ownerReferences": [plan.owner]},
        "spec": {
            "entrypoint": shlex.join(("python3", "-m", "softprompt.rayjob.entry", *plan.arguments)),
            "submissionMode": "K8sJobMode",
            "submitterConfig": {"backoffLimit": SUBMITTER_RETRIES},
            "submitterPodTemplate": submitter_pod(settings, plan.image, plan.labels),
            "backoffLimit": settings.retries,
            "activeDeadlineSeconds": settings.deadline_seconds,
            "preRunningDeadlineSeconds": settings.start_seconds,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": settings.ttl_seconds,
            "suspend": bool(settings.queue),
            "rayClusterSpec": _cluster(plan),
        },
    }


def _cluster(plan: Plan) -> Fragment:
    least, most = plan.workers
    grows = most > least
    spec: Fragment = {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token"},
        "headGroupSpec": _head(plan, grows=grows),
        "workerGroupSpecs": [_workers(plan)],
        "enableInTreeAutoscaling": grows,
    }
    if grows:
        spec["autoscalerOptions"] = {
            "version": "v2",
            "resources": sized("100m", "512Mi"),
            "securityContext": CONTAINER_SECURITY,
            "volumeMounts": [WRITABLE],
        }
    return spec


def _head(plan: Plan, *, grows: bool) -> Fragment:
    """The driver's pod. It offers Ray no processor, so that nothing but the driver works there."""
    resources = sized(plan.settings.head_cpu, plan.settings.head_memory)
    pod = ray_pod(plan.settings, plan.task, plan.image, plan.labels, _container(plan, "ray-head", resources), _prepare(plan))
    pod["metadata"]["annotations"] = KEEP_HEAD
    pod["spec"]["automountServiceAccountToken"] = grows  # the autoscaler beside Ray asks for pods
    return {"rayStartParams": _start(plan, num_cpus=0), "template": pod}


def _workers(plan: Plan) -> Fragment:
    least, most = plan.workers
    resources = worker_resources(plan.settings, plan.task)
    pod = ray_pod(plan.settings, plan.task, plan.image, plan.labels, _container(plan, "ray-worker", resources), _prepare(plan))
    where = {"tolerations": plan.task.tolerations, "nodeSelector": plan.task.node_selector, "affinity": plan.task.affinity}
    pod["spec"] |= {name: value for name, value in where.items() if value}
    # A training's worker, an evaluation's model: one a pod, with all its threads. Ray Data's tasks have one each.
    num_cpus = max(2, num_threads(plan.settings, resources)) if plan.step == "validate_dataset" else 1
    return {
        "groupName": "workers",
        "replicas": least,
        "minReplicas": least,
        "maxReplicas": most,
        "rayStartParams": _start(plan, num_cpus=num_cpus),
        "template": pod,
    }


def _container(plan: Plan, name: str, resources: Fragment) -> Fragment:
    # The driver tells its workers how many threads to take, so that the head needs to know it, too.
    threads = num_threads(plan.settings, worker_resources(plan.settings, plan.task))
    env = environment_of(plan.settings, plan.task, plan.environment, threads)
    return {"name": name, "env": env, "resources": resources}


def _start(plan: Plan, *, num_cpus: int) -> dict[str, str]:
    return {"num-cpus": str(num_cpus), "object-store-memory": str(OBJECT_STORE_BYTES[plan.step])}


def _prepare(plan: Plan) -> list[str]:
    return ["python3", "-m", "softprompt.rayjob.prepare", *plan.arguments]
