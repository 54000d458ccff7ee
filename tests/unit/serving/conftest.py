"""A channel on a real S3 server that serves prompts of a tiny base."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from softprompt.artifact import Answer, PromptFile
from softprompt.base_model import FrozenBase, load_base_model
from softprompt.embedded.s3 import embedded_s3
from softprompt.engine.encoding import TextEncoder
from softprompt.release.care.init_channel import init_channel, publishing_key_file
from softprompt.release.planning.policy import LAPTOP_POLICY
from softprompt.release.publish_prompt import publish_prompt
from softprompt.release.reader import Reader
from softprompt.release.store import S3Store, open_store
from softprompt.release.trust import load_trust_root

TEMPLATE = "Thing: {text}\nColour:"


@dataclass
class Channel:
    """A channel that tests publish to and follow."""

    folder: Path
    store: S3Store
    base: FrozenBase

    def publish(self, name: str, prompt: PromptFile) -> int:
        """Publish; returns the generation."""
        outcome = publish_prompt(
            prompt=prompt,
            name=name,
            channel="laptop",
            verdict="passed",
            evidence={},
            model_version="1",
            numerics="float32",
            store=self.store,
            policy_dir=self.folder / "environments",
            trust_root=self.folder / "root.json",
            signing_key=publishing_key_file(self.folder / "keys", "laptop"),
            state_dir=self.folder / "journal",
        )
        assert outcome.outcome == "published"
        return outcome.generation

    def reader(self, base_fingerprint: str = "") -> Reader:
        """A node's reader with state of its own."""
        return Reader(
            store=self.store,
            channel="laptop",
            trust=load_trust_root(self.folder / "root.json"),
            state_dir=self.folder / "node",
            base_fingerprint=base_fingerprint,
        )

    def prompt(self, *, seed: int = 0, task: str = "classification", **changes: object) -> PromptFile:
        """A prompt for the channel's base."""
        values = np.random.default_rng(seed).normal(scale=0.5, size=(4, 32)).astype(np.float32)
        answers = (Answer(label="blue", text=" blue"), Answer(label="red", text=" red"), Answer(label="green", text=" green"))
        fields = {
            "task": task,
            "template": TEMPLATE,
            "template_examples": TextEncoder(self.base.text, TEMPLATE).examples(),
            "answers": answers if task == "classification" else (),
            "max_new_tokens": 5,
            "base_fingerprint": self.base.fingerprint,
        }
        return PromptFile.build(values, **(fields | changes))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A real S3 server."""
    with embedded_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def channel(tmp_path, s3_server, llama_directory):
    """A channel that serves nothing yet."""
    store = open_store(f"s3://softprompt/{tmp_path.name}", s3_server.access)
    policy = tmp_path / "environments" / "laptop" / "_policy.yaml"
    policy.parent.mkdir(parents=True)
    policy.write_text(LAPTOP_POLICY)
    init_channel("laptop", store=store, keys_dir=tmp_path / "keys", trust_root=tmp_path / "root.json")
    return Channel(tmp_path, store, load_base_model(llama_directory))
