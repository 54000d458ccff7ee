"""The pod of a step as Kubeflow Pipelines makes one: the compiled package's image, command and arguments, and a launcher.

KFP's own launcher is in no package registry. The one here does what the pod sees of it: it brings the input artifacts to their
paths, starts the command in a process group of its own, hands signals on to that group as Argo's emissary does, and takes the
output artifacts and the log to S3.
"""

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from ruamel.yaml import YAML

from pipelines.compile import compile_pipeline
from softprompt.release.s3_client import S3Access
from tests.cluster.kubernetes import Kubernetes, an_object, restricted

LAUNCHER = """
import json, os, pathlib, signal, subprocess, sys, boto3
from botocore.config import Config
from softprompt.release.s3_client import parse_s3_uri
spec = json.loads(os.environ["LAUNCH"])
client = boto3.client("s3", config=Config(retries={"max_attempts": 10, "mode": "standard"}, s3={"addressing_style": "path"}))
path = lambda uri: pathlib.Path("/s3") / uri.removeprefix("s3://")
for uri in spec["inputs"]:
    bucket, prefix = parse_s3_uri(uri)
    for found in client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
        target = pathlib.Path("/s3") / bucket / found["Key"]
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, found["Key"], str(target))
for uri in spec["outputs"]:
    path(uri).parent.mkdir(parents=True, exist_ok=True)
child = subprocess.Popen(spec["command"], start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
signal.signal(signal.SIGTERM, lambda *_: os.killpg(child.pid, signal.SIGTERM))
lines = []
for line in child.stdout:
    lines.append(line)
    print(line, end="", flush=True)
code = child.wait()
bucket, key = parse_s3_uri(spec["log"])
client.put_object(Bucket=bucket, Key=key, Body="".join(lines).encode())
if code:
    sys.exit(code if code > 0 else 128 - code)
for uri in spec["outputs"]:
    bucket, key = parse_s3_uri(uri)
    files = [path(uri)] if path(uri).is_file() else [found for found in path(uri).rglob("*") if found.is_file()]
    for file in files:
        client.upload_file(str(file), bucket, str(file.relative_to(pathlib.Path("/s3") / bucket)))
"""


def patient_s3(access: S3Access) -> Any:
    """A client that asks a busy server again."""
    config = Config(retries={"max_attempts": 10, "mode": "standard"}, s3={"addressing_style": "path"})
    keys = {"aws_access_key_id": access.access_key_id, "aws_secret_access_key": access.secret_access_key}
    return boto3.client("s3", endpoint_url=access.endpoint_url, region_name=access.region, config=config, **keys)


@cache
def compiled_steps(folder: Path) -> dict[str, Any]:
    """The package's executors and components, by step."""
    compile_pipeline(folder / "package.yaml")
    documents = list(YAML(typ="safe").load_all((folder / "package.yaml").read_text()))
    executors = documents[0]["deploymentSpec"]["executors"]
    return {
        name.removeprefix("comp-").replace("-", "_"): component
        | {"container": executors[component["executorLabel"]]["container"]}
        for name, component in documents[0]["components"].items()
        if "executorLabel" in component
    }


@dataclass
class StepPods:
    """Pods of the steps of one run.

    Attributes:
        image: Of the steps.
        bucket: For artifacts.
        run: The pipeline run's id.
        folder: For the compiled package.
    """

    kubernetes: Kubernetes
    namespace: str
    image: str
    bucket: str
    run: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def uri(self, step: str, output: str) -> str:
        """Where a step's output goes."""
        return f"s3://{self.bucket}/artifacts/prompt-tuning/{self.run}/{step.replace('_', '-')}/0/{output}"

    def start(self, step: str, parameters: dict[str, Any], inputs: dict[str, str], attempt: int = 0) -> str:
        """Start a step's pod; its name.

        Args:
            step: Which.
            parameters: Values of its input parameters.
            inputs: Name of each input artifact -> its URI.
            attempt: Counts the pods of one step.
        """
        component = compiled_steps(self.folder)[step]
        executor_input, outputs = self._executor_input(step, component, parameters, inputs)
        container = component["container"]
        arguments = [executor_input if argument == "{{$}}" else argument for argument in container["args"]]
        name = f"{step.replace('_', '-')}-{self.run[:8]}-{attempt}"
        launch = {"inputs": list(inputs.values()), "outputs": outputs, "command": [*container["command"], *arguments]}
        launch["log"] = f"s3://{self.bucket}/logs/{name}"
        self.kubernetes.apply(self._pod(name, launch))
        return name

    def wait(self, pod: str, timeout_seconds: float = 600) -> str:
        """The log of a pod that has ended well."""
        phase = self.kubernetes.phase_at_end(pod, self.namespace, timeout_seconds, every_seconds=5)
        log = self._object(f"logs/{pod}").decode()
        assert phase == "Succeeded", log[-6000:]
        return log

    def output(self, step: str, name: str, file: str = "") -> bytes:
        """An output, or a file of it."""
        return self._object(self.uri(step, name).removeprefix(f"s3://{self.bucket}/") + (f"/{file}" if file else ""))

    def _object(self, key: str) -> bytes:
        return bytes(patient_s3(self.kubernetes.s3).get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def _executor_input(
        self, step: str, component: dict[str, Any], parameters: dict[str, Any], inputs: dict[str, str]
    ) -> tuple[str, list[str]]:
        taken = component.get("inputDefinitions", {}).get("artifacts", {})
        given = component["outputDefinitions"]
        uris = {name: self.uri(step, name) for name in given.get("artifacts", {})}
        files = {
            name: {"outputFile": f"/s3/{self.uri(step, name).removeprefix('s3://')}"} for name in given.get("parameters", {})
        }
        artifacts = lambda kinds, uris: {
            name: {"artifacts": [{"name": name, "uri": uris[name], "type": kind["artifactType"], "metadata": {}}]}
            for name, kind in kinds.items()
        }
        content = {
            "inputs": {"parameterValues": parameters, "artifacts": artifacts(taken, inputs)},
            "outputs": {
                "artifacts": artifacts(given.get("artifacts", {}), uris),
                "parameters": files,
                "outputFile": f"/s3/{self.bucket}/executor_output.json",
            },
        }
        # Metrics are no files, and what a step has not written is not taken back.
        return json.dumps(content), [*uris.values(), *(self.uri(step, name) for name in given.get("parameters", {}))]

    def _pod(self, name: str, launch: dict[str, Any]) -> dict[str, Any]:
        own = {"KFP_POD_NAME": "metadata.name", "KFP_POD_UID": "metadata.uid"}
        env = [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in own.items()]
        env += [{"name": key, "value": value} for key, value in {"LAUNCH": json.dumps(launch), **self.environment}.items()]
        container = restricted(
            name="main",
            image=self.image,
            command=["python3", "-c", LAUNCHER],
            env=env,
            envFrom=[{"configMapRef": {"name": "softprompt-pipeline"}}, {"secretRef": {"name": "softprompt-pipeline"}}],
            volumeMounts=[{"name": "s3", "mountPath": "/s3"}, {"name": "tmp", "mountPath": "/tmp"}],
            resources={"requests": {"cpu": "50m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        )
        labels = {"app.kubernetes.io/part-of": "softprompt", "softprompt.dev/duty": "pipeline", "pipeline/runid": self.run}
        spec = {
            "restartPolicy": "Never",
            "serviceAccountName": "softprompt-pipeline",
            "containers": [container],
            "volumes": [{"name": "s3", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
        }
        return an_object("v1", "Pod", name, namespace=self.namespace, labels=labels, spec=spec)
