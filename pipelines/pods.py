"""The pods that steps run in on a cluster: image, resources, retries, time limits, configuration, security.

`prompt_tuning.py` says what a run does; this module is what `softprompt compile` adds to it. A run on a laptop has none of it:
the local runner would repeat a step that refused a dataset, and has no pods. `softprompt compile --pods FILE` reads settings from
a YAML file; what it leaves out is as it stands here.
"""

import dataclasses
import math
from fractions import Fraction
from typing import Annotated, Literal, get_args

from kfp import kubernetes
from kfp.dsl import PipelineTask, TaskConfigField, TaskConfigPassthrough
from pydantic import Field, StringConstraints

from components import IMAGE
from softprompt.documents import Document
from softprompt.names import Name
from softprompt.placement import Backend
from softprompt.rayjob.settings import PREFIX, RayJobSettings
from softprompt.settings import SECRET_VARIABLES
from softprompt.step_request import HeavyStep

Step = Literal[
    "resolve_recipe",
    "validate_dataset",
    "tune_prompt",
    "evaluate_prompt",
    "register_prompt",
    "publish_prompt",
    "explain_rejection",
]
Cpu = Annotated[str, StringConstraints(pattern=r"^(\d+(\.\d+)?|\d+m)?$")]
Memory = Annotated[str, StringConstraints(pattern=r"^(\d+(Ki|Mi|Gi|Ti|K|M|G|T)?)?$")]
ObjectName = Annotated[str, StringConstraints(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

USER = 10001
"""Of the image; Kubernetes checks `runAsNonRoot` against a number only."""
LABELS = {"app.kubernetes.io/part-of": "softprompt", "softprompt.dev/duty": "pipeline"}
"""On every step's pod; NetworkPolicies select by them."""
PLACES_A_POD = (
    TaskConfigField.RESOURCES,
    TaskConfigField.KUBERNETES_TOLERATIONS,
    TaskConfigField.KUBERNETES_NODE_SELECTOR,
    TaskConfigField.KUBERNETES_AFFINITY,
)
FOLDER = "/etc/softprompt"
"""Where trust root, policies and signing keys are mounted."""

REQUIRED_CONFIGURATION = ("SOFTPROMPT_STORE", "MLFLOW_TRACKING_URI")
"""Without these a step would work on a store and a registry of its own, that nobody sees: its pod does not start."""
CONFIGURATION = (
    *(
        "SOFTPROMPT_BACKEND",
        "SOFTPROMPT_CHECKPOINTS",
        "SOFTPROMPT_SIGNER",
        "SOFTPROMPT_STORE_ENCRYPTION",
        "SOFTPROMPT_TRACKING_PAGE",
    ),
    *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "HF_ENDPOINT", "HF_HUB_OFFLINE"),
)
RAYJOB = tuple(f"{PREFIX}{field.name.upper()}" for field in dataclasses.fields(RayJobSettings))
"""Of the steps that may have their work done by a RayJob."""
USES_RAY: tuple[Step, ...] = get_args(HeavyStep)


class Toleration(Document):
    """A taint that a step's pod stands."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class StepPod(Document):
    """What one step's pod gets."""

    cpu_request: Cpu = ""
    cpu_limit: Cpu = ""
    """Also the number of threads that torch uses, rounded up: it would count the node's cores."""
    memory_request: Memory = ""
    memory_limit: Memory = ""
    accelerator: str = ""
    """Such as `nvidia.com/gpu`."""
    accelerators: int = Field(default=1, ge=1)
    shared_memory: Memory = ""
    """Size of /dev/shm, which counts as memory of the pod; empty: the node's default of 64 MiB. Ray keeps its objects there."""
    retries: int = Field(default=2, ge=0, le=10)
    """How often it is started again when it failed, whatever it failed of: KFP cannot tell a store that was away from a dataset
    that is refused."""
    backoff_seconds: int = Field(default=30, ge=1)
    """Before the first of these; then twice as long each time."""
    timeout_seconds: int = Field(default=1800, ge=60)
    """Of one attempt."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()

    @property
    def retrying_seconds(self) -> int:
        """Longest time from the first start to the last: KFP's default of an hour would keep a long step from being repeated."""
        waiting: int = self.backoff_seconds * (2**self.retries - 1)
        return (self.retries + 1) * self.timeout_seconds + waiting


_SMALL = StepPod(
    cpu_request="100m", cpu_limit="1", memory_request="512Mi", memory_limit="2Gi", timeout_seconds=1800, backoff_seconds=15
)
_LARGE = StepPod(
    cpu_request="1", cpu_limit="4", memory_request="2Gi", memory_limit="8Gi", shared_memory="512Mi", timeout_seconds=6 * 3600
)
STEPS: dict[Step, StepPod] = {
    # It reads the base model and the dataset once, for their digests.
    "resolve_recipe": _SMALL.model_copy(update={"timeout_seconds": 2 * 3600}),
    "validate_dataset": _LARGE,
    "tune_prompt": _LARGE.model_copy(update={"timeout_seconds": 48 * 3600, "retries": 3, "backoff_seconds": 60}),
    "evaluate_prompt": _LARGE.model_copy(update={"timeout_seconds": 12 * 3600}),
    "register_prompt": _SMALL.model_copy(update={"retries": 4}),
    "publish_prompt": _SMALL.model_copy(update={"retries": 4}),
    "explain_rejection": _SMALL,
}


class PodSettings(Document):
    """What a cluster adds to the pipeline. `softprompt compile`'s options outrank the file."""

    schema_version: Literal[1] = 1
    image: str = IMAGE
    """Of every step, best by digest: what a digest names never changes."""
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[ObjectName, ...] = ()
    config_map: ObjectName = "softprompt-pipeline"
    """Variables of every step; the chart makes it. Empty: none."""
    configuration: tuple[Variable, ...] = ()
    """Further keys of it: KFP names each variable, it cannot take a ConfigMap as a whole."""
    secret: ObjectName = "softprompt-pipeline"  # noqa: S105  # the object's name
    """Secret variables of every step. Empty: the ServiceAccount's workload identity."""
    secrets: tuple[Variable, ...] = ()
    """Further keys of it."""
    trust_root: ObjectName = "softprompt-trust-root"
    """ConfigMap with `root.json`. Empty: none, and no run can read a channel."""
    channels: tuple[Name, ...] = ()
    """Channels that recipes may name: of each the ConfigMap `softprompt-policy-CHANNEL` with `_policy.yaml` is mounted."""
    signing_keys: ObjectName = ""
    """Secret with `publish-CHANNEL.pem` for channels whose authority is `pipeline`; only publish_prompt gets it. Never one that
    holds the key of a channel whose authority is `git`."""
    steps: dict[Step, StepPod] = Field(default_factory=dict)
    """What is other than usual, step by step."""
    backend: Backend = "local"
    """Where the package's runs are meant to train. `rayjob`: what `tune_prompt` asks of a node is for its Ray pods alone, and its
    own pod, which only waits, asks for nothing; a run of this package should not choose `local`."""

    def step(self, name: Step) -> StepPod:
        """What a step's pod gets: what is usual, with what the settings say of it."""
        given = self.steps.get(name)
        said = {key: getattr(given, key) for key in given.model_fields_set} if given else {}
        return STEPS[name].model_copy(update=said)

    def place(self, task: PipelineTask) -> PipelineTask:
        """Add to a task of the pipeline what its pod needs; returns the task."""
        name: Step = task.name.replace("-", "_")
        step = self.step(name)
        task.set_container_image(self.image)
        _give_resources(task, step)
        _repeat(task, step)
        _secure(task, step)
        self._configure(task, name)
        self._mount(task, signs=name == "publish_prompt")
        if self.backend == "rayjob" and name == "tune_prompt":
            _hand_on(task)
        kubernetes.set_image_pull_policy(task, self.image_pull_policy)
        if self.image_pull_secrets:
            kubernetes.set_image_pull_secrets(task, list(self.image_pull_secrets))
        return task

    def _configure(self, task: PipelineTask, step: Step) -> None:
        """Variables out of the ConfigMap and the Secret; the required ones keep a pod from starting where they are missing."""
        if self.config_map:
            required = {name: name for name in REQUIRED_CONFIGURATION}
            known = (*CONFIGURATION, *(RAYJOB if step in USES_RAY else ()), *self.configuration)
            optional = {name: name for name in known if name not in required}
            kubernetes.use_config_map_as_env(task, self.config_map, required)
            kubernetes.use_config_map_as_env(task, self.config_map, optional, optional=True)
        if self.secret:
            names = {name: name for name in (*SECRET_VARIABLES, *self.secrets)}
            kubernetes.use_secret_as_env(task, self.secret, names, optional=True)

    def _mount(self, task: PipelineTask, *, signs: bool) -> None:
        """Trust root and policies; for the step that signs the keys, too."""
        if self.trust_root:
            kubernetes.use_config_map_as_volume(task, self.trust_root, f"{FOLDER}/trust")
            task.set_env_variable("SOFTPROMPT_TRUST_ROOT", f"{FOLDER}/trust/root.json")
        if self.channels:
            task.set_env_variable("SOFTPROMPT_POLICIES", f"{FOLDER}/environments")
        for channel in self.channels:
            kubernetes.use_config_map_as_volume(task, f"softprompt-policy-{channel}", f"{FOLDER}/environments/{channel}")
        if signs and self.signing_keys:
            kubernetes.use_secret_as_volume(task, self.signing_keys, f"{FOLDER}/keys")
            task.set_env_variable("SOFTPROMPT_KEYS", f"{FOLDER}/keys")


def _give_resources(task: PipelineTask, step: StepPod) -> None:
    given = {
        task.set_cpu_request: step.cpu_request,
        task.set_cpu_limit: step.cpu_limit,
        task.set_memory_request: step.memory_request,
        task.set_memory_limit: step.memory_limit,
    }
    for give, amount in given.items():
        if amount:
            give(amount)
    if step.cpu_limit:
        task.set_env_variable("OMP_NUM_THREADS", str(num_threads(step.cpu_limit)))
    if step.accelerator:
        task.set_accelerator_type(step.accelerator).set_accelerator_limit(step.accelerators)
    for key, value in step.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in step.tolerations:
        given_fields = {name: value for name, value in toleration.model_dump().items() if value}
        kubernetes.add_toleration(task, **given_fields)


def _hand_on(task: PipelineTask) -> None:
    """Keep what places a pod off the step's own, and only hand it on; the component itself stays as it is."""
    passed = [
        TaskConfigPassthrough(field=one.field, apply_to_task=one.apply_to_task and one.field not in PLACES_A_POD)
        for one in task.component_spec.task_config_passthroughs
    ]
    task.component_spec = dataclasses.replace(task.component_spec, task_config_passthroughs=passed)


def num_threads(cpu: str) -> int:
    """Whole processors of a limit such as `1500m` or `2`, rounded up."""
    return math.ceil(Fraction(cpu[:-1]) / 1000 if cpu.endswith("m") else Fraction(cpu))


def _repeat(task: PipelineTask, step: StepPod) -> None:
    kubernetes.set_timeout(task, step.timeout_seconds)
    if step.retries:
        task.set_retry(
            step.retries,
            backoff_duration=f"{step.backoff_seconds}s",
            backoff_factor=2.0,
            backoff_max_duration=f"{step.retrying_seconds}s",
        )


def _secure(task: PipelineTask, step: StepPod) -> None:
    """What Pod Security `restricted` asks and KFP leaves out, and places to write where the root file system is read-only."""
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.empty_dir_mount(task, "tmp", "/tmp")  # noqa: S108  # the image's only place to write
    if step.shared_memory:
        kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit=step.shared_memory)  # noqa: S108
    for key, value in LABELS.items():
        kubernetes.add_pod_label(task, key, value)
