"""The cluster of this machine that lies beside the repository (`../shared/cluster`): started, grown, its nodes crashed."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.kubernetes import ROOT, Kubernetes
from tests.cluster.locks import is_free, lock
from tests.waiting import wait_for

PROGRAMS = ROOT.parent / "shared" / "cluster"
STATE = Path(os.environ.get("SOFTPROMPT_CLUSTER", "/var/lib/softprompt-cluster"))


def why_not() -> str:
    """Why this machine can have no cluster; empty: it can."""
    if not (PROGRAMS / "up").is_file():
        return f"{PROGRAMS} is absent"
    return "" if os.geteuid() == 0 else "a cluster on this machine needs root"


@dataclass(frozen=True)
class Machine:
    """The cluster of this machine."""

    kubernetes: Kubernetes

    @classmethod
    def here(cls) -> "Machine":
        """It, running or not."""
        path = f"{STATE / 'bin'}:{os.environ['PATH']}"
        return cls(Kubernetes(dict(os.environ) | {"KUBECONFIG": str(STATE / "kubeconfig"), "PATH": path}))

    def start(self) -> None:
        """Start it, or what of it does not run; but no node that another test run holds down."""
        with lock("cluster"):
            if not self._answers() or (self._lost_nodes() and is_free("nodes")):
                self._up()

    def grow(self, num_nodes: int) -> None:
        """Have at least so many nodes."""
        with lock("cluster"):
            if len(self.nodes()) < num_nodes:
                self._up("--nodes", str(num_nodes))

    def nodes(self) -> list[str]:
        """Names of the nodes, such as `node-1`."""
        return [node["metadata"]["name"] for node in self.kubernetes.get("nodes")["items"]]

    @contextmanager
    def crashed(self, node: str) -> Iterator[None]:
        """A node that is gone, with all that ran on it; afterwards it is back. Hold the lock `nodes` around it."""
        self.kubernetes.run(PROGRAMS / "node", "crash", node.removeprefix("node-"))
        try:
            yield
        finally:
            self.kubernetes.run(PROGRAMS / "node", "return", node.removeprefix("node-"), timeout_seconds=300)
            self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Until every node is ready."""
        wait_for(lambda: not self._lost_nodes(), "every node is ready", timeout_seconds=600)

    def has_image(self, node: str, name: str) -> bool:
        """Whether a node has an image."""
        return bool(self.kubernetes.run(*_containerd(node), "images", "ls", "--quiet", f"name=={_full(name)}").strip())

    def copy_image(self, name: str, source: str, target: str) -> None:
        """Bring an image from one node to another; `image load` packs it anew and loads it onto every node."""
        export = [*_containerd(source), "images", "export", "-", _full(name)]
        with subprocess.Popen(export, env=self.kubernetes.environment, stdout=subprocess.PIPE) as exported:
            subprocess.run([*_containerd(target), "images", "import", "-"], stdin=exported.stdout, check=True)
        assert exported.returncode == 0, export

    def _up(self, *arguments: str) -> None:
        self.kubernetes.run(PROGRAMS / "up", *arguments, timeout_seconds=600)

    def _answers(self) -> bool:
        program = STATE / "bin" / "kubectl"
        return program.exists() and self.kubernetes.attempt(program, "get", "--raw", "/readyz").returncode == 0

    def _lost_nodes(self) -> list[str]:
        nodes = self.kubernetes.get("nodes")["items"]
        return [node["metadata"]["name"] for node in nodes if not _is_ready(node)]


def _is_ready(node: dict[str, object]) -> bool:
    conditions = node["status"]["conditions"]  # type: ignore[index]
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _containerd(node: str) -> list[str]:
    """The command line of a node's containerd."""
    return ["ctr", "--address", str(STATE / node / "run" / "containerd.sock"), "--namespace", "k8s.io"]


def _full(image: str) -> str:
    return f"docker.io/{image}"
