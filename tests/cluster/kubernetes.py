"""A cluster through its own command lines: objects go in, facts and logs come out."""

import base64
import json
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from softprompt.release.s3_client import S3Access
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Kubernetes:
    """A cluster.

    Attributes:
        environment: What `kubectl` and `helm` are run with; says which cluster it is.
    """

    environment: dict[str, str]

    def run(self, *command: str | Path, given: object = None, timeout_seconds: float = 120) -> str:
        """What a command prints; objects go to it as JSON on standard input, so that nothing secret is an argument."""
        done = self.attempt(*command, given=given, timeout_seconds=timeout_seconds)
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def attempt(
        self, *command: str | Path, given: object = None, timeout_seconds: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """A command that may fail."""
        return subprocess.run(
            [str(part) for part in command],
            input=None if given is None else json.dumps(given),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            cwd=ROOT,
            start_new_session=True,  # a cluster that it starts outlives the shell of the tests
        )

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects."""
        self.run("kubectl", "apply", "--filename", "-", given={"apiVersion": "v1", "kind": "List", "items": list(objects)})

    def get(self, *what: str) -> dict[str, Any]:
        """An object, or a list of them in `items`."""
        found: dict[str, Any] = json.loads(self.run("kubectl", "get", *what, "--output", "json"))
        return found

    def pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """The pods with these labels."""
        found: list[dict[str, Any]] = self.get("pods", "--namespace", namespace, "--selector", selector)["items"]
        return found

    def namespace(self, name: str, level: str = "restricted") -> str:
        """Make a namespace under a level of the Pod Security Standards; its name."""
        self.apply(an_object("v1", "Namespace", name, labels={"pod-security.kubernetes.io/enforce": level}))
        return name

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace with all that is in it, without waiting for the end."""
        self.run("kubectl", "delete", "namespace", name, "--wait=false")

    def phase_at_end(self, pod: str, namespace: str, timeout_seconds: float = 90, every_seconds: float = 0.5) -> str:
        """`Succeeded` or `Failed`, once a pod has ended."""
        ended = ("Succeeded", "Failed")
        return wait_for(
            lambda: (phase := self.get("pod", pod, "--namespace", namespace)["status"].get("phase")) in ended and phase,
            f"pod {pod} has ended",
            timeout_seconds=timeout_seconds,
            every_seconds=every_seconds,
        )

    @cached_property
    def s3(self) -> S3Access:
        """The cluster's S3 server, as its owner."""
        keys = self.get("secret", "s3-root", "--namespace", "s3")["data"]
        address = self.get("service", "s3", "--namespace", "s3")["spec"]["clusterIP"]
        access, secret = (base64.b64decode(keys[name]).decode() for name in ("access", "secret"))
        return S3Access(endpoint_url=f"http://{address}:7070", region="us-east-1", access_key_id=access, secret_access_key=secret)


def an_object(
    api: str, kind: str, name: str, *, labels: dict[str, str] | None = None, namespace: str = "", **content: object
) -> dict[str, Any]:
    """A Kubernetes object."""
    metadata = {"name": name, "labels": labels or {}} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **content}


def restricted(**container: object) -> dict[str, Any]:
    """A container that Pod Security `restricted` admits, with a root file system that nobody can write to."""
    safe = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
    }
    return {"imagePullPolicy": "IfNotPresent", "securityContext": safe, **container}
