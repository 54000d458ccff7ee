"""The pods of a RayJob: what they may do, what they know, what they write to, how large they are.

All keep to Pod Security `restricted`, with a root file system that nobody writes to. Ray needs `/tmp` for its sessions and
`/dev/shm` for its object store; both are volumes of the pod, the latter KubeRay's own.
"""

from collections.abc import Mapping

from softprompt.ray_session import RAY_SETTINGS
from softprompt.rayjob.settings import PREFIX, RayJobSettings, amount
from softprompt.rayjob.task import Fragment, TaskSettings
from softprompt.settings import SECRET_VARIABLES

PASSED_ON = (
    "AWS_CA_BUNDLE",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "HF_ENDPOINT",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "MLFLOW_TRACKING_URI",
    "NO_PROXY",
    "REQUESTS_CA_BUNDLE",
    "SOFTPROMPT_EVENTS",
    "SOFTPROMPT_STORE",
    "SOFTPROMPT_STORE_ENCRYPTION",
    "SSL_CERT_FILE",
)
"""What Ray pods take over from the step's environment; nothing of it is secret."""
WRITABLE = {"name": "softprompt-tmp", "mountPath": "/tmp"}  # noqa: S108  # a volume of the pod's own
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
THREADS = "OMP_NUM_THREADS"


def environment_of(settings: RayJobSettings, task: TaskSettings, step: Mapping[str, str], threads: int) -> list[Fragment]:
    """The environment of Ray's containers; what was set on the task counts most.

    Args:
        settings: Name the Secret.
        task: What was set on the task.
        step: The step's own environment.
        threads: That a worker computes with.
    """
    found: dict[str, Fragment] = {name: {"name": name, "value": value} for name, value in RAY_SETTINGS.items()}
    found |= {name: {"name": name, "value": step[name]} for name in PASSED_ON if step.get(name)}
    for name in SECRET_VARIABLES:  # nothing else of it, such as a Git token
        source = {"secretKeyRef": {"name": settings.secret, "key": name, "optional": True}}
        found[name] = {"name": name, "valueFrom": source}
    own = {THREADS: threads, f"{PREFIX}ORPHAN_SECONDS": settings.orphan_seconds}
    found |= {name: {"name": name, "value": str(value)} for name, value in own.items()}
    found |= {entry["name"]: entry for entry in task.env}
    return list(found.values())


def worker_resources(settings: RayJobSettings, task: TaskSettings) -> Fragment:
    """Resources of a worker's container: the task's, else the deployment's."""
    return task.resources or sized(settings.cpu, settings.memory)


def sized(cpu: str, memory: str) -> Fragment:
    """Resources without a limit of processors, which would only slow a pod down where others are idle."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}


def num_threads(settings: RayJobSettings, resources: Fragment) -> int:
    """Whole processors that a worker's container has for itself, at least one; the deployment may say another number."""
    given = {**resources.get("limits", {}), **resources.get("requests", {})}.get("cpu", "1")
    return settings.num_cpus or max(1, int(amount(str(given), where="the task's resources")))


def ray_pod(
    settings: RayJobSettings, task: TaskSettings, image: str, labels: Mapping[str, str], container: Fragment, prepare: list[str]
) -> Fragment:
    """A template of a head's or a worker's pod.

    Args:
        settings: Service account and priority.
        task: Volumes.
        image: Of all containers.
        labels: Of the pod.
        container: Ray's: name, environment, resources.
        prepare: Command that brings inputs there before Ray starts.
    """
    # Where the step has a volume for its own temporary files, the Ray pods have theirs.
    mounts = [mount for mount in task.volume_mounts if mount["mountPath"].rstrip("/") != WRITABLE["mountPath"]]
    common = {
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [WRITABLE, *mounts],
    }
    first = {
        "name": "prepare",
        "command": prepare,
        "env": container["env"],
        "resources": _without_devices(container["resources"]),
    }
    spec = pod_spec(settings) | {"initContainers": [common | first], "containers": [common | container]}
    return {"metadata": {"labels": dict(labels)}, "spec": spec | {"volumes": [*spec["volumes"], *task.volumes]}}


def submitter_pod(settings: RayJobSettings, image: str, labels: Mapping[str, str]) -> Fragment:
    """A template of the pod that submits the job to Ray and prints its log; KubeRay says what it runs."""
    container = {
        "name": "ray-job-submitter",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [WRITABLE],
        "resources": sized("100m", "1Gi"),
    }
    spec = pod_spec(settings) | {"restartPolicy": "Never", "containers": [container]}
    return {"metadata": {"labels": dict(labels)}, "spec": spec}


def pod_spec(settings: RayJobSettings) -> Fragment:
    """What all pods have in common. They have no business with the Kubernetes API, so they get no token for it."""
    spec: Fragment = {
        "serviceAccountName": settings.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": WRITABLE["name"], "emptyDir": {}}],
    }
    return spec | ({"priorityClassName": settings.priority_class} if settings.priority_class else {})


def _without_devices(resources: Fragment) -> Fragment:
    kept = ("cpu", "memory", "ephemeral-storage")
    return {side: {name: amounts[name] for name in kept if name in amounts} for side, amounts in resources.items()}
