"""A second person follows docs/cluster.md from an empty namespace to a served prompt, and away again.

What differs from the page: the images' tags, which name their source here, the bucket's name, and another home folder.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml

from tests.cluster.kubernetes import ROOT, Kubernetes
from tests.pages import blocks
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
NAMESPACES = ("prompts", "promotion", "runs")
NAME = {"NAME": "A", "EMAIL": "a@b.example"}
PERSON = {f"GIT_{who}_{what}": said for who in ("AUTHOR", "COMMITTER") for what, said in NAME.items()}


def saved(name: str) -> str:
    """The YAML that the page says to save under a name."""
    (found,) = [block for block in blocks(PAGE, "yaml") if block.startswith(f"# {name}\n")]
    return found


def typed(first: str) -> str:
    """The commands of the console block that begins with these words."""
    (block,) = [block for block in blocks(PAGE, "console") if block.startswith(f"$ {first}")]
    return "\n".join(line.removeprefix("$ ") for line in block.splitlines())


class Reader:
    """Somebody at a shell: variables and folder are kept from one block of commands to the next.

    Args:
        kubernetes: The cluster.
        folder: An empty one.
        bucket: What the page's bucket is called here.
    """

    def __init__(self, kubernetes: Kubernetes, folder: Path, bucket: str) -> None:
        self._folder, self._bucket, self.home = folder, bucket, folder / "home"
        self._variables, self._place = folder / "variables", folder / "place"
        self._shells: list[int] = []
        repository = folder / "repository"
        for made in (self.home, repository):
            made.mkdir()
        for part in ("charts", "infra"):
            (repository / part).symlink_to(ROOT / part)
        path = f"{Path(sys.executable).parent}:{kubernetes.environment['PATH']}"
        known = {name: value for name, value in kubernetes.environment.items() if not name.startswith(("SOFTPROMPT_", "AWS_"))}
        known |= PERSON | {"HOME": str(self.home), "PATH": path, "PYTHONPATH": str(ROOT)}
        self._variables.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in known.items()))
        self._place.write_text(str(repository))

    def save(self, name: str, text: str) -> None:
        """Save a file in the folder that the shell is in."""
        (Path(self._place.read_text().strip()) / name).write_text(self._adapted(text))

    def type(self, commands: str, *, timeout_seconds: float = 300) -> str:
        """Run commands until one fails, which fails the test; what they print."""
        before = f"set -e\nsource {self._variables}\ncd $(cat {self._place})\n"
        after = f"\nexport -p > {self._variables}\npwd > {self._place}\n"
        said = self._folder / "said"  # a file: what goes on in the background would keep a pipe open
        with said.open("w") as file:
            command = ["bash", "-c", before + self._adapted(commands) + after]
            shell = subprocess.Popen(command, stdout=file, stderr=file, env={}, start_new_session=True)
            self._shells.append(shell.pid)
            code = shell.wait(timeout_seconds)
        assert code == 0, f"{commands}\n{said.read_text()[-4000:]}"
        return said.read_text()

    def leave(self) -> None:
        """End what still runs in the background."""
        for shell in self._shells:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell, signal.SIGTERM)
        if (pid := self.home / "served" / "pid").exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)

    def _adapted(self, text: str) -> str:
        return text.replace("s3://prompts", f"s3://{self._bucket}").replace('Bucket="prompts"', f'Bucket="{self._bucket}"')


@pytest.fixture
def reader(kubernetes, tmp_path):
    for name in NAMESPACES:
        if kubernetes.attempt("kubectl", "get", "namespace", name).returncode == 0:
            pytest.skip(f"there is a namespace {name}, which is somebody's")
    made = Reader(kubernetes, tmp_path, f"prompts-{uuid.uuid4().hex[:8]}")
    yield made
    made.leave()
    for name in NAMESPACES:
        kubernetes.attempt("kubectl", "delete", "namespace", name, "--wait=false", "--ignore-not-found")


def with_tags(values: str, images) -> str:
    """The page's values, with the images that were built for these tests."""
    found = yaml.safe_load(values)
    for part, role in (("serving", "serving"), ("reconciler", "release"), ("mlflow", "steps")):
        found[part]["image"] = {"tag": images.name(role).rpartition(":")[2]}
    return yaml.safe_dump(found)


def test_a_second_person_gets_from_nothing_to_a_served_prompt_and_leaves_nothing(kubernetes, images, reader):
    reader.type(typed("export AWS_ENDPOINT_URL_S3="))
    reader.type(typed("kubectl create namespace prompts"))
    reader.save("trial.yaml", with_tags(saved("trial.yaml"), images))
    reader.type(typed("kubectl create namespace runs"))

    reader.type(typed("cp -r infra/gitops ~/prompts"))
    reader.type(typed("git daemon"))
    reader.type("kubectl --namespace prompts rollout status deployment/softprompt-mlflow\ncd ~/trial")
    reader.save("my-recipe.yaml", saved("~/trial/my-recipe.yaml"))
    tuned = reader.type(typed("kubectl --namespace prompts port-forward service/softprompt-mlflow"), timeout_seconds=600)
    assert "not published (proposed: " in tuned

    merge, ask = typed("cd ~/prompts").split("curl", 1)
    reader.type(merge)
    is_served = lambda: "probabilities" in (said := reader.type(f"curl --silent {ask} || true")) and said
    answer = wait_for(is_served, "the prompt is served", timeout_seconds=180, every_seconds=2)
    assert json.loads(answer)["label"] == "road"

    reader.type("cd ../../repository")
    assert "Succeeded" in reader.type(typed("helm test softprompt"))
    reader.type(typed("helm upgrade softprompt"))
    reader.type(typed("helm uninstall softprompt"))
    assert not [name for name in NAMESPACES if kubernetes.attempt("kubectl", "get", "namespace", name).returncode == 0]
