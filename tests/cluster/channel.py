"""A channel on the cluster's S3 server, and what its prompts answer when this process asks them."""

import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from softprompt.artifact import Answer, PromptFile
from softprompt.base_model import FrozenBase, load_base_model
from softprompt.engine.encoding import TextEncoder
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.release.s3_client import S3Access, s3_client
from softprompt.release.store import S3Store
from tests import laptop_channel


@dataclass
class Channel:
    """A channel in a bucket of its own on the cluster's S3 server, whose base model lies beside it."""

    folder: Path
    store: S3Store
    bucket: str
    base: FrozenBase

    @classmethod
    def create(cls, owner: S3Access, folder: Path, base: Path) -> "Channel":
        """A bucket with a base model in `bases/tiny` and a channel that has just begun.

        Args:
            owner: Of the S3 server.
            folder: An empty one, for keys, policy and journal.
            base: Of the base model, in the hub's layout.
        """
        bucket, client = f"channel-{uuid.uuid4().hex[:12]}", s3_client(owner)
        client.create_bucket(Bucket=bucket)
        for file in base.iterdir():
            client.upload_file(str(file), bucket, f"bases/tiny/{file.name}")
        made = cls(folder, S3Store(bucket, "", client), bucket, load_base_model(base))
        laptop_channel.begin(folder, made.store)
        return made

    @property
    def trust_root(self) -> Path:
        return self.folder / "root.json"

    def publish(self, prompt: PromptFile) -> int:
        """Serve a prompt as `colours`; the generation."""
        return laptop_channel.publish(self.folder, self.store, "colours", prompt)

    def prompt(self, seed: int) -> PromptFile:
        template = "Thing: {text}\nColour:"
        return PromptFile.build(
            np.random.default_rng(seed).normal(scale=0.5, size=(4, self.base.hidden_size)).astype(np.float32),
            task="classification",
            template=template,
            template_examples=TextEncoder(self.base.text, template).examples(),
            answers=tuple(Answer(label=label, text=f" {label}") for label in ("blue", "red", "green")),
            max_new_tokens=5,
            base_fingerprint=self.base.fingerprint,
        )

    def answer_here(self, prompt: PromptFile, text: str) -> dict[str, float]:
        """Label -> probability, as this process computes it."""
        task = EncodedTask.of_manifest(self.base.text, prompt.manifest)
        found = Predictor(self.base, task, SoftPrompt(torch.from_numpy(prompt.values))).predict([{"text": text}])[0]
        return dict(zip((answer.label for answer in prompt.manifest.answers), found.probabilities, strict=True))
