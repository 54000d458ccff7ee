"""A compiled package run pod by pod, as KFP's driver and Argo do it, where no Kubeflow Pipelines can be had.

Written from the sources of KFP 2.17.0: `driver/resolve.go` (inputs), `driver/driver.go` (executor input, outputs, command,
resources), `driver/k8s.go` (what the package says of the pod), `compiler/argocompiler/container.go` (what every step's pod has).
Only what this project's package uses is known; anything else raises. The launcher is `kfp_launcher.py`.
"""

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kfp.pipeline_spec.pipeline_spec_pb2 as proto
from google.protobuf import json_format, struct_pb2
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from ruamel.yaml import YAML

from softprompt.release.s3_client import S3Access, parse_s3_uri, s3_client
from tests.cluster import kfp_launcher
from tests.cluster.kubernetes import Kubernetes, an_object

LAUNCHER, STORE = "/kfp-launcher", "/kfp-store"
SCRATCH = {"gcs-scratch": "/gcs", "s3-scratch": "/s3", "minio-scratch": "/minio"}
SCRATCH |= {f"dot-{name}-scratch": f"/.{name}" for name in ("local", "cache", "config")}
"""Empty folders of every step's pod."""
SAFE = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}
"""What KFP's compiler gives the container of a step; the rest is the package's."""
CONDITION = re.compile(r"(!\()?inputs\.parameter_values\['(?P<name>[^']+)'\] != '(?P<value>[^']*)'\)?")
FIELDS = {
    *("config_map_as_env", "secret_as_env", "config_map_as_volume", "secret_as_volume", "empty_dir_mounts", "pod_metadata"),
    *("security_context", "image_pull_policy", "active_deadline_seconds"),
}
"""Of the package's word about a pod: those that are known here."""


@dataclass(frozen=True)
class Package:
    """A compiled package, read strictly with KFP's own messages."""

    spec: proto.PipelineSpec
    platform: proto.SinglePlatformSpec

    @classmethod
    def read(cls, file: Path) -> "Package":
        pipeline, platform = YAML(typ="safe").load_all(file.read_text())
        platforms = json_format.ParseDict(platform, proto.PlatformSpec()).platforms
        return cls(json_format.ParseDict(pipeline, proto.PipelineSpec()), platforms["kubernetes"])

    def container(self, label: str) -> Any:
        """The container of an executor."""
        deployment = json_format.MessageToDict(self.spec.deployment_spec)
        return json_format.ParseDict(deployment, proto.PipelineDeploymentConfig()).executors[label].container

    def config(self, label: str) -> KubernetesExecutorConfig:
        """What is said of an executor's pod. AssertionError: something that is not known here."""
        content = json_format.MessageToDict(self.platform.deployment_spec.executors[label])
        config = json_format.ParseDict(content, KubernetesExecutorConfig())
        unknown = {name.name for name, _ in config.ListFields()} - FIELDS
        assert not unknown, f"the package says {unknown} of a pod, which is not known here"
        return config


@dataclass
class Outputs:
    """What a task left: output parameters, and its artifacts as the next task gets them."""

    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class PackageRun:
    """A run of a package.

    Attributes:
        kubernetes: The cluster.
        namespace: Of the pods.
        package: What is run.
        root: Pipeline root, `s3://BUCKET/PREFIX`.
        service_account: Of all steps.
        store: The pipeline root's server, as this machine reaches it.
        store_in_pods: The same server's URL as pods reach it.
        run_id: KFP's id of the run.
        max_retries: Most retries of a step; as many as the package says, and no more than this.
        seconds: Task -> seconds from its pod's creation to its end.
        pods: Task -> the pod as it was at its end.
        logs: Task -> what a pod that failed printed.
    """

    kubernetes: Kubernetes
    namespace: str
    package: Package
    root: str
    service_account: str
    store: S3Access
    store_in_pods: str
    run_id: str = field(default_factory=lambda: secrets.token_hex(16))
    max_retries: int = 10
    seconds: dict[str, float] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Task -> its executor input."""
    _artifact_ids: Iterator[int] = field(default_factory=lambda: iter(range(1, 10_000)))

    def prepare(self) -> None:
        """What the pods mount: the launcher's text, and its keys of the store."""
        access = {
            "endpoint_url": self.store_in_pods,
            "region_name": self.store.region,
            "aws_access_key_id": self.store.access_key_id,
            "aws_secret_access_key": self.store.secret_access_key,
        }
        text = Path(kfp_launcher.__file__).read_text()
        self.kubernetes.apply(
            an_object("v1", "ConfigMap", "test-launcher", namespace=self.namespace, data={"launch.py": text}),
            an_object("v1", "Secret", "test-launcher", namespace=self.namespace, stringData={"store.json": json.dumps(access)}),
        )

    def go(self, parameters: Mapping[str, Any]) -> dict[str, Outputs]:
        """Run everything in order; task -> what it left, those that were skipped left out."""
        expected = self.package.spec.root.input_definitions.parameters
        assert set(parameters) <= set(expected), "the server refuses a parameter that it does not know"
        given = {name: _content(spec.default_value) for name, spec in expected.items()} | dict(parameters)
        done: dict[str, Outputs] = {}
        self._dag(self.package.spec.root.dag, Outputs(given), done)
        return done

    def again(self, task: str) -> Outputs:
        """A task once more with the same executor input, as Argo does when its pod failed."""
        name = next(name for name, one in self._tasks() if name == task)
        component = self.package.spec.components[dict(self._tasks())[name].component_ref.name]
        return self._run_pod(f"{task}-again", task, component, self.inputs[task])

    def _tasks(self) -> Iterator[tuple[str, Any]]:
        for dag in (self.package.spec.root.dag, *(one.dag for one in self.package.spec.components.values())):
            yield from dag.tasks.items()

    def _dag(self, dag: Any, given: Outputs, done: dict[str, Outputs]) -> None:
        for name in _in_order(dag):
            task = dag.tasks[name]
            component = self.package.spec.components[task.component_ref.name]
            inputs = self._inputs(task, component, given, done)
            if not _holds(task.trigger_policy.condition, inputs.parameters):
                continue
            if component.HasField("dag"):
                self._dag(component.dag, inputs, done)
            else:
                self.inputs[name] = self._executor_input(name, component, inputs)
                done[name] = self._with_retries(name, task.retry_policy.max_retry_count, component)

    def _inputs(self, task: Any, component: Any, given: Outputs, done: Mapping[str, Outputs]) -> Outputs:
        """`resolveInputs`: parameters by their types, artifacts as they were recorded."""
        found = Outputs()
        kinds = component.input_definitions.parameters
        for name, source in task.inputs.parameters.items():
            kind = proto.ParameterType.ParameterTypeEnum.Name(kinds[name].parameter_type)
            if kind != "TASK_CONFIG":
                found.parameters[name] = self._parameter(name, kind, source, given, done)
        missing = [
            name
            for name, spec in kinds.items()
            if name not in found.parameters and not spec.is_optional and not spec.HasField("default_value")
            if proto.ParameterType.ParameterTypeEnum.Name(spec.parameter_type) != "TASK_CONFIG"
        ]
        assert not missing, f"no value for {missing}"
        for name, source in task.inputs.artifacts.items():
            if source.component_input_artifact:
                found.artifacts[name] = given.artifacts[source.component_input_artifact]
            else:
                output = source.task_output_artifact
                found.artifacts[name] = done[output.producer_task].artifacts[output.output_artifact_key]
        return found

    def _parameter(self, name: str, kind: str, source: Any, given: Outputs, done: Mapping[str, Outputs]) -> Any:
        which = source.WhichOneof("kind")
        if which == "component_input_parameter":
            value = given.parameters[source.component_input_parameter]
        elif which == "task_output_parameter":
            output = source.task_output_parameter
            value = done[output.producer_task].parameters[output.output_parameter_key]
        else:
            assert which == "runtime_value", f"{which} is not known here"
            value = _content(source.runtime_value.constant)
            value = self.run_id if value == "{{$.pipeline_job_uuid}}" else value
            assert not str(value).startswith("{{$."), f"the placeholder {value} is not known here"
        expected = {"STRING": str, "NUMBER_INTEGER": (int, float), "BOOLEAN": bool}[kind]
        assert isinstance(value, expected), f"input parameter {name} type mismatch: expect {kind}, got {value!r}"
        return value

    def _with_retries(self, name: str, retries: int, component: Any) -> Outputs:
        """A task's pods, one after the other with the same input, until one succeeds; without Argo's waits between them."""
        for number in range(min(retries, self.max_retries) + 1):
            try:
                return self._run_pod(f"{name}-{number}" if number else name, name, component, self.inputs[name])
            except AssertionError as error:
                if number == min(retries, self.max_retries):
                    raise
                print(f"\n{name} is tried again: {str(error).splitlines()[-1]}")
        raise AssertionError

    def _executor_input(self, name: str, component: Any, inputs: Outputs) -> dict[str, Any]:
        """`provisionOutputs`, and the task's own configuration for a parameter that asks for it."""
        pipeline = self.package.spec.pipeline_info.name
        place = f"{self.root}/{pipeline}/{self.run_id}/{name}/{secrets.token_hex(8)}"
        definitions = component.output_definitions
        artifacts = {
            key: {"name": key, "uri": f"{place}/{key}", "type": json_format.MessageToDict(spec.artifact_type), "metadata": {}}
            for key, spec in definitions.artifacts.items()
        }
        plain = {"schemaTitle": "system.Artifact"}
        artifacts["executor-logs"] = {"name": "executor-logs", "uri": f"{place}/executor-logs", "type": plain, "metadata": {}}
        parameters = dict(inputs.parameters)
        for key, spec in component.input_definitions.parameters.items():
            if proto.ParameterType.ParameterTypeEnum.Name(spec.parameter_type) == "TASK_CONFIG":
                parameters[key] = self._task_config(component)
        content = {
            "inputs": {
                "parameterValues": parameters,
                "artifacts": {key: {"artifacts": [artifact]} for key, artifact in inputs.artifacts.items()},
            },
            "outputs": {
                "parameters": {key: {"outputFile": f"/tmp/kfp/outputs/{key}"} for key in definitions.parameters},
                "artifacts": {key: {"artifacts": [artifact]} for key, artifact in artifacts.items()},
                "outputFile": f"/s3/{place.removeprefix('s3://')}/output_metadata.json",
            },
        }
        # Through KFP's own message and back: what it does not know raises.
        return dict(_as_go_writes(json_format.MessageToDict(json_format.ParseDict(content, proto.ExecutorInput()))))

    def _task_config(self, component: Any) -> dict[str, Any]:
        """`TaskConfig` in Go: what the component lets pass through, of what is set on its task."""
        passed = {
            proto.TaskConfigPassthroughType.TaskConfigPassthroughTypeEnum.Name(one.field): one.apply_to_task
            for one in component.task_config_passthroughs
        }
        assert all(passed.values()), "a field that is not applied to the task itself is not known here"
        pod = self._pod("", component, {})["spec"]
        (main,) = pod["containers"]
        found: dict[str, Any] = {"affinity": None, "tolerations": None, "nodeSelector": None, "env": None}
        found |= {"volumes": None, "volumeMounts": None, "resources": {}}
        if "ENV" in passed:
            found["env"] = main["env"]
        if "RESOURCES" in passed:
            found["resources"] = main["resources"]
        if "KUBERNETES_VOLUMES" in passed:
            kinds = ("configMap", "secret")
            mounted = [volume for volume in pod["volumes"] if any(kind in volume for kind in kinds) and _is_packages(volume)]
            names = {volume["name"] for volume in mounted}
            found["volumes"] = mounted
            found["volumeMounts"] = [mount for mount in main["volumeMounts"] if mount["name"] in names]
        return found

    def _run_pod(self, pod: str, task: str, component: Any, executor_input: dict[str, Any]) -> Outputs:
        """A task's pod to its end, and what it left."""
        name = f"prompt-tuning-{self.run_id[:5]}-{pod}"
        began = time.monotonic()
        self.kubernetes.apply(self._pod(name, component, executor_input))
        deadline = self.package.config(component.executor_label).active_deadline_seconds
        phase = self.kubernetes.phase_at_end(name, self.namespace, timeout_seconds=min(deadline, 600))
        self.seconds[pod] = round(time.monotonic() - began, 1)
        self.pods[pod] = self.kubernetes.get("pod", name, "--namespace", self.namespace)
        if phase != "Succeeded":
            self.logs[pod] = self._log_of_a_failure(name, executor_input)
            status = json.dumps(self.pods[pod]["status"], indent=1)
            raise AssertionError(f"{task} failed\n{status[-2000:]}\n{self.logs[pod][-6000:]}")
        return self._outputs(executor_input)

    def pods_of(self, task: str) -> list[dict[str, Any]]:
        """The pods of a task's tries, in order."""
        return [pod for name, pod in self.pods.items() if re.fullmatch(rf"{task}(-\d+)?", name)]

    def _log_of_a_failure(self, name: str, executor_input: dict[str, Any]) -> str:
        """What a pod printed, as its launcher sent it to the store; taken away, so that the next try's log is its own.

        The kubelet's copy may be gone: where several nodes share one machine, each kubelet tidies the others' logs away. It is
        all there is of a pod that failed before its launcher did anything.
        """
        bucket, key = parse_s3_uri(executor_input["outputs"]["artifacts"]["executor-logs"]["artifacts"][0]["uri"])
        client = s3_client(self.store)
        try:
            body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except client.exceptions.NoSuchKey:
            return self.kubernetes.attempt("kubectl", "logs", name, "--namespace", self.namespace).stdout
        client.delete_object(Bucket=bucket, Key=key)
        return body.decode()

    def read(self, uri: str) -> bytes:
        """An object of the store."""
        bucket, key = parse_s3_uri(uri)
        body: bytes = s3_client(self.store).get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def _outputs(self, executor_input: dict[str, Any]) -> Outputs:
        """What the launcher recorded; artifacts as ML Metadata gives them to the next task: by an id, without their type."""
        place = str(Path(executor_input["outputs"]["outputFile"]).parent).removeprefix("/s3/")
        result = json.loads(self.read(f"s3://{place}/{kfp_launcher.RESULT}"))
        artifacts = {
            name: {
                "name": str(next(self._artifact_ids)),
                "uri": f"s3://{place}/{name}",
                "metadata": metadata | {"display_name": name, "store_session_info": "{}"},
            }
            for name, metadata in result["metadata"].items()
        }
        return Outputs(result["parameters"], artifacts)

    def _pod(self, name: str, component: Any, executor_input: dict[str, Any]) -> dict[str, Any]:
        """The pod of a step: the compiler's template with the driver's patch."""
        label = component.executor_label
        container, config = self.package.container(label), self.package.config(label)
        context = json_format.MessageToDict(config.security_context)
        numbers = {key: int(context[key]) for key in ("runAsUser", "runAsGroup") if key in context}
        command = ["python3", f"{LAUNCHER}/launch.py", "--store", f"{STORE}/store.json"]
        main = {
            "name": "main",
            "image": container.image,
            "imagePullPolicy": config.image_pull_policy,
            "command": [*command, "--executor_input", json.dumps(executor_input), "--"],
            "args": [*container.command, *container.args],
            "env": [*_environment(container, config), *_own_names()],
            "resources": _resources(container.resources),
            "securityContext": SAFE | context | numbers,
            "volumeMounts": [{"name": key, "mountPath": path} for key, path in SCRATCH.items()],
        }
        volumes: list[dict[str, Any]] = [{"name": key, "emptyDir": {}} for key in SCRATCH]
        for volume, path in (*_volumes(config), *_launcher()):
            volumes.append(volume)
            main["volumeMounts"].append({"name": volume["name"], "mountPath": path})
        spec = {
            "restartPolicy": "Never",
            "serviceAccountName": self.service_account,
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "activeDeadlineSeconds": config.active_deadline_seconds,
            "containers": [main],
            "volumes": volumes,
        }
        labels = {"pipelines.kubeflow.org/v2_component": "true", **config.pod_metadata.labels}
        return an_object("v1", "Pod", name, namespace=self.namespace, labels=labels, spec=spec)


def _as_go_writes(content: Any) -> Any:
    """Numbers of a message as Go's JSON has them: a whole one without a point, where Python's has `1.0`."""
    if isinstance(content, dict):
        return {key: _as_go_writes(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_as_go_writes(value) for value in content]
    return int(content) if isinstance(content, float) and content.is_integer() else content


def _content(value: struct_pb2.Value) -> Any:
    return json_format.MessageToDict(value)


def _in_order(dag: Any) -> list[str]:
    """Tasks after those that they take something from."""
    needs = {}
    for name, task in dag.tasks.items():
        parameters = [one.task_output_parameter.producer_task for one in task.inputs.parameters.values()]
        artifacts = [one.task_output_artifact.producer_task for one in task.inputs.artifacts.values()]
        needs[name] = {one for one in (*parameters, *artifacts, *task.dependent_tasks) if one}
    order: list[str] = []
    while len(order) < len(needs):
        ready = sorted(name for name in needs if name not in order and needs[name] <= set(order))
        assert ready, "the graph has a circle"
        order += ready
    return order


def _holds(condition: str, parameters: Mapping[str, Any]) -> bool:
    """The two forms of condition that the package has, of the language that KFP evaluates."""
    if not condition:
        return True
    found = CONDITION.fullmatch(condition)
    assert found, f"the condition {condition} is not known here"
    differs = parameters[found["name"]] != found["value"]
    return not differs if condition.startswith("!(") else differs


def _environment(container: Any, config: KubernetesExecutorConfig) -> Iterator[dict[str, Any]]:
    """The package's variables, then those out of Secrets, then those out of ConfigMaps."""
    for variable in container.env:
        yield {"name": variable.name, "value": variable.value}
    for source in config.secret_as_env:
        for key in source.key_to_env:
            place = {"name": _constant(source.secret_name_parameter), "key": key.secret_key, "optional": source.optional}
            yield {"name": key.env_var, "valueFrom": {"secretKeyRef": place}}
    for source in config.config_map_as_env:
        for key in source.key_to_env:
            place = {"name": _constant(source.config_map_name_parameter), "key": key.config_map_key, "optional": source.optional}
            yield {"name": key.env_var, "valueFrom": {"configMapKeyRef": place}}


def _own_names() -> Iterator[dict[str, Any]]:
    """Variables that KFP's compiler gives every pod."""
    for name, path in {"KFP_POD_NAME": "metadata.name", "KFP_POD_UID": "metadata.uid", "NAMESPACE": "metadata.namespace"}.items():
        yield {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _volumes(config: KubernetesExecutorConfig) -> Iterator[tuple[dict[str, Any], str]]:
    for mount in config.config_map_as_volume:
        name = _constant(mount.config_map_name_parameter)
        yield {"name": name, "configMap": {"name": name, "optional": mount.optional}}, mount.mount_path
    for mount in config.secret_as_volume:
        name = _constant(mount.secret_name_parameter)
        yield {"name": name, "secret": {"secretName": name, "optional": mount.optional}}, mount.mount_path
    for mount in config.empty_dir_mounts:
        given = {"medium": mount.medium, "sizeLimit": mount.size_limit}
        yield {"name": mount.volume_name, "emptyDir": {key: value for key, value in given.items() if value}}, mount.mount_path


def _launcher() -> Iterator[tuple[dict[str, Any], str]]:
    yield {"name": "kfp-launcher", "configMap": {"name": "test-launcher"}}, LAUNCHER
    yield {"name": "kfp-launcher-store", "secret": {"secretName": "test-launcher"}}, STORE


def _is_packages(volume: dict[str, Any]) -> bool:
    return not volume["name"].startswith("kfp-launcher")


def _resources(resources: Any) -> dict[str, dict[str, str]]:
    found = {
        "requests": {"cpu": resources.resource_cpu_request, "memory": resources.resource_memory_request},
        "limits": {"cpu": resources.resource_cpu_limit, "memory": resources.resource_memory_limit},
    }
    if resources.HasField("accelerator"):
        found["limits"][resources.accelerator.resource_type] = resources.accelerator.resource_count
    return {side: {key: amount for key, amount in amounts.items() if amount} for side, amounts in found.items()}


def _constant(source: Any) -> str:
    """A name of an object, which the package states as a constant."""
    assert source.WhichOneof("kind") == "runtime_value"
    return str(_content(source.runtime_value.constant))
