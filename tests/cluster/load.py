"""Load on a fleet, from this machine or from a pod, and what came of it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softprompt.artifact import PromptFile
from tests.cluster.fleet import Fleet
from tests.cluster.kubernetes import an_object, restricted
from tests.waiting import wait_for

CLIENT = Path(__file__).with_name("load_client.py")
TEXTS = ("ruby", "cherry", "sky", "a leaf of grass", "sapphire", "tomato")


@dataclass
class Outcome:
    """What the clients saw; filled when they have stopped.

    Attributes:
        failures: Each request without an answer: when it began, how long it took, what was seen.
        wrong: Each answer that is not what its prompt says.
        digests: Prompt -> answers.
        seconds: Second since 1970 -> answers in it.
        refused: Connections that could not be made.
        slowest: Longest time of an answer, in seconds.
    """

    failures: list[Any] = field(default_factory=list)
    wrong: list[Any] = field(default_factory=list)
    digests: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    slowest: float = 0.0

    @property
    def num_answers(self) -> int:
        return sum(self.digests.values())

    def take(self, said: str) -> None:
        self.__dict__.update(json.loads(said.splitlines()[-1]))

    def __str__(self) -> str:
        return (
            f"{self.num_answers} answers, {len(self.failures)} failures, {len(self.wrong)} wrong, {self.refused} connections "
            f"refused, slowest {self.slowest:.2f} s; first failures {self.failures[:3]}"
        )


def task(fleet: Fleet, prompt: PromptFile, **options: Any) -> str:
    """What a client is told to do: JSON."""
    questions = {text: fleet.channel.answer_here(prompt, text) for text in TEXTS}
    defaults = {"threads": 3, "pause_seconds": 0.02, "keeps": True, "connects": 1, "seconds": 600}
    return json.dumps({"address": fleet.url.removeprefix("http://"), "questions": questions} | defaults | options)


@contextmanager
def load_from_here(fleet: Fleet, prompt: PromptFile, **options: Any) -> Iterator[Outcome]:
    """Clients on this machine, until the block ends."""
    outcome = Outcome()
    command = [sys.executable, str(CLIENT), task(fleet, prompt, **options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        process.stdout.readline()  # they ask
        yield outcome
    finally:
        process.terminate()
        outcome.take(process.communicate(timeout=60)[0])


@contextmanager
def load_from_a_pod(fleet: Fleet, prompt: PromptFile, name: str, node: str, **options: Any) -> Iterator[Outcome]:
    """Clients in a pod on one node, until the block ends.

    What they say is read in the pod: kubelets that share a machine throw away each other's logs.
    """
    kubernetes, outcome, here = fleet.kubernetes, Outcome(), ("--namespace", fleet.namespace)
    command = ["sh", "-c", 'python3 -c "$0" "$1" >/tmp/said; sleep 600', CLIENT.read_text(), task(fleet, prompt, **options)]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    container = restricted(name="ask", image=fleet.image, command=command, volumeMounts=mounts)
    spec = {
        "nodeName": node,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    kubernetes.apply(an_object("v1", "Pod", name, namespace=fleet.namespace, labels={"may": "ask"}, spec=spec))

    def said() -> list[str]:
        return kubernetes.attempt("kubectl", "exec", name, *here, "--", "cat", "/tmp/said").stdout.splitlines()

    wait_for(said, f"pod {name} asks", timeout_seconds=120)
    yield outcome
    kubernetes.run("kubectl", "exec", name, *here, "--", "touch", "/tmp/stop")
    outcome.take(wait_for(lambda: said()[1:], f"pod {name} has stopped", timeout_seconds=60)[-1])
    kubernetes.run("kubectl", "delete", "pod", name, *here, "--wait=false")
