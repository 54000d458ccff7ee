"""A namespace in which steps and their Ray pods run: the chart's own accounts, rights, configuration, network, and its MLflow."""

import dataclasses
import json
import uuid
from pathlib import Path
from typing import Any

from softprompt.data.validate import validate_dataset
from softprompt.resolve import ResolvedRecipe, resolve_recipe
from softprompt.tuning.checkpoint import MANIFEST_FILE
from tests.cluster.fleet import CHART, LAPTOP
from tests.cluster.kubernetes import Kubernetes
from tests.cluster.s3_users import as_environment
from tests.cluster.step_pods import StepPods, patient_s3
from tests.waiting import wait_for

RECIPE = Path(__file__).resolve().parents[2] / "pipelines" / "recipes" / "demo.yaml"
SIZES = {"CPU": "100m", "HEAD_CPU": "100m", "MEMORY": "2Gi", "HEAD_MEMORY": "3Gi", "RETRIES": "6"}
"""Of Ray pods: a machine of two cores has room for many that ask for little."""
TRAINERS = ("--selector", "softprompt.dev/duty=trainer")


def recipe_text(training: str) -> str:
    """The demo's recipe with other training keys."""
    return RECIPE.read_text().replace("training:\n  steps: 200\n  batch_size: 32\n", f"training: {{{training}}}\n")


def recipe_with(training: str) -> ResolvedRecipe:
    """The same, resolved."""
    return resolve_recipe(recipe_text(training))


@dataclasses.dataclass(frozen=True)
class TrainingPlace:
    """Where steps run.

    Attributes:
        bucket: Of everything that they keep.
        folder: On this machine.
    """

    kubernetes: Kubernetes
    namespace: str
    image: str
    bucket: str
    folder: Path

    def install(self, **values: Any) -> None:
        """Install or change the chart's part for pipelines; the address of its MLflow answers afterwards."""
        repository, _, tag = self.image.rpartition(":")
        images = {"mlflow.image.repository": repository, "mlflow.image.tag": tag}
        settings = {
            "store.uri": f"s3://{self.bucket}",
            "serving.enabled": "false",
            "pipeline.enabled": "true",
            "mlflow.enabled": "true",
            "mlflow.credentials.secret": "softprompt-pipeline",
            "networkPolicy.rayOperator[0].namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name": "kuberay-system",
        }
        settings |= images | {f"pipeline.environment.SOFTPROMPT_RAYJOB_{name}": value for name, value in SIZES.items()} | values
        flags = [
            part for key, value in settings.items() for part in ("--set-string" if "RAYJOB" in key else "--set", f"{key}={value}")
        ]
        secret = {"pipeline": {"secretEnvironment": as_environment(self.kubernetes.s3)}}
        here = ("--namespace", self.namespace)
        given = ("--values", LAPTOP, "--values", "-", *flags)
        self.kubernetes.run("helm", "upgrade", "--install", "softprompt", CHART, *here, *given, given=secret)
        self.kubernetes.run("kubectl", "rollout", "status", "--timeout=280s", *here, self._mlflow(), timeout_seconds=300)

    def put_dataset(self, resolved: ResolvedRecipe, name: str) -> str:
        """The dataset artifact of a recipe, as an earlier step would have left it; its URI."""
        folder = self.folder / name
        validate_dataset(resolved, folder / "dataset", folder / "report.html")
        return self.put(folder / "dataset", f"datasets/{name}")

    def put(self, path: Path, key: str) -> str:
        """Put a file, or a folder of files, into the bucket; its URI."""
        client = patient_s3(self.kubernetes.s3)
        for file in path.iterdir() if path.is_dir() else (path,):
            client.upload_file(str(file), self.bucket, f"{key}/{file.name}" if path.is_dir() else key)
        return f"s3://{self.bucket}/{key}"

    def steps(self) -> StepPods:
        """The steps of a new run."""
        return StepPods(self.kubernetes, self.namespace, self.image, self.bucket, str(uuid.uuid4()), self.folder)

    def names(self, kind: str, *selector: str) -> list[str]:
        """Names of objects of a kind."""
        found = json.loads(self.kubernetes.run("kubectl", "get", kind, "--namespace", self.namespace, *selector, "-o", "json"))
        return [item["metadata"]["name"] for item in found["items"]]

    def rayjobs(self) -> list[dict[str, Any]]:
        """The RayJobs."""
        found: list[dict[str, Any]] = self.kubernetes.get("rayjobs.ray.io", "--namespace", self.namespace)["items"]
        return found

    def checkpoints(self) -> set[tuple[str, int]]:
        """(training, number) of each complete checkpoint that lies in the bucket."""
        listing = patient_s3(self.kubernetes.s3).get_paginator("list_objects_v2")
        pages = listing.paginate(Bucket=self.bucket, Prefix="checkpoints/softprompt-")
        keys = [found["Key"].split("/") for page in pages for found in page.get("Contents", [])]
        return {(key[1], int(key[2].split("-")[1])) for key in keys if key[-1] == MANIFEST_FILE}

    def ray_pods(self, kind: str) -> list[str]:
        """Names of the running pods of a Ray cluster: `head` or `worker`."""
        selector = ("--selector", f"ray.io/node-type={kind}", "--field-selector", "status.phase=Running")
        return self.names("pods", *selector)

    def in_head(self, *command: str) -> str:
        """What a command prints in the head pod of the one Ray cluster that runs."""
        (head,) = self.ray_pods("head")
        within = ("kubectl", "exec", head, "--namespace", self.namespace, "--container", "ray-head", "--")
        return self.kubernetes.run(*within, *command)

    def remove(self, pods: list[str]) -> None:
        """Take pods away at once, as a machine that is taken away does: nothing in them is told."""
        here = ("--namespace", self.namespace, "--grace-period=0", "--force")
        self.kubernetes.run("kubectl", "delete", "pods", *pods, *here)

    def left_over(self) -> dict[str, list[str]]:
        """What RayJobs have left in the namespace."""
        kinds = {"rayjobs.ray.io": (), "rayclusters.ray.io": (), "jobs": (), "pods": TRAINERS, "services": ()}
        found = {kind: self.names(kind, *selector) for kind, selector in kinds.items()}
        found["services"] = [name for name in found["services"] if not name.startswith("softprompt")]
        return {kind: names for kind, names in found.items() if names}

    def wait_until_clean(self) -> None:
        """Until nothing of any RayJob is left."""
        wait_for(lambda: not self.left_over(), "nothing of a RayJob is left", timeout_seconds=180, every_seconds=2)

    def _mlflow(self) -> str:
        (name,) = [name for name in self.names("deployments") if "mlflow" in name or "registry" in name]
        return f"deployment/{name}"
