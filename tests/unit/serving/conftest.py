"""A channel on a real S3 server that serves prompts of a tiny base."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from softprompt.artifact import Answer, PromptFile
from softprompt.base_model import FrozenBase, load_base_model
from softprompt.engine.encoding import TextEncoder
from softprompt.release.reader import Reader
from softprompt.release.store import S3Store, open_store
from softprompt.release.trust import load_trust_root
from tests import laptop_channel

TEMPLATE = "Thing: {text}\nColour:"


@dataclass
class Channel:
    """A channel that tests publish to and follow."""

    folder: Path
    store: S3Store
    base: FrozenBase

    def publish(self, name: str, prompt: PromptFile) -> int:
        """Publish; returns the generation."""
        return laptop_channel.publish(self.folder, self.store, name, prompt)

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


@pytest.fixture
def channel(tmp_path, s3_server, llama_directory):
    """A channel that serves nothing yet."""
    store = open_store(f"s3://softprompt/{tmp_path.name}", s3_server.access)
    laptop_channel.begin(tmp_path, store)
    return Channel(tmp_path, store, load_base_model(llama_directory))
