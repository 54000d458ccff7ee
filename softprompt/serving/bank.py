"""Verified prompts, warm: each digest is loaded, checked against the base and prepared once, within a bound of bytes."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import torch

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.errors import FingerprintMismatch, VerificationFailed
from softprompt.release.reader import Snapshot

MAX_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class WarmPrompt:
    """A prompt that can answer at once.

    Attributes:
        file: The verified prompt file.
        predictor: Answers rows; holds the prompt's keys and values.
        num_bytes: Memory it holds.
    """

    file: PromptFile
    predictor: Predictor
    num_bytes: int


class PromptBank:
    """Warm prompts by digest, the least recently used ones dropped first.

    Args:
        base: The base model that runs here.
        max_bytes: Bound of what is kept.
    """

    def __init__(self, base: FrozenBase, max_bytes: int = MAX_BYTES) -> None:
        self._base, self._max_bytes = base, max_bytes
        self._warm: OrderedDict[str, WarmPrompt] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: str, snapshot: Snapshot) -> WarmPrompt:
        """A prompt of a generation, loaded unless it is warm; requests for the same one wait for one load.

        Raises:
            FingerprintMismatch: It was trained on another base.
            VerificationFailed: It is not what its digest says, or this machine tokenises its template otherwise.
        """
        with self._lock:
            if digest not in self._warm:
                self._warm[digest] = warm_up(self._base, snapshot.load(digest))
            self._warm.move_to_end(digest)
            while len(self._warm) > 1 and sum(prompt.num_bytes for prompt in self._warm.values()) > self._max_bytes:
                self._warm.popitem(last=False)
            return self._warm[digest]


def warm_up(base: FrozenBase, file: PromptFile) -> WarmPrompt:
    """Check that a prompt fits this base and this tokenizer, and compute its keys and values.

    Raises:
        FingerprintMismatch: It was trained on another base.
        VerificationFailed: Its template gives other tokens here than where it was trained.
    """
    manifest = file.manifest
    if manifest.base_fingerprint != base.fingerprint:
        raise FingerprintMismatch(
            "The prompt was trained on another base model.",
            where=f"prompt {file.digest[:12]}",
            expected=manifest.base_fingerprint,
            actual=base.fingerprint,
            hint="Serve it with its own base, or tune it again for this one.",
        )
    task = EncodedTask.of_manifest(base.text, manifest)
    for example in manifest.template_examples:
        actual = tuple(task.encoder.input_ids(example.values))
        if actual != example.token_ids:
            raise VerificationFailed(
                "This machine tokenises the prompt's template otherwise than where it was trained.",
                where=f"prompt {file.digest[:12]}, example {example.values}",
                expected=str(list(example.token_ids)),
                actual=str(list(actual)),
                hint="Use the same versions of transformers and tokenizers.",
            )
    soft = SoftPrompt(torch.from_numpy(file.values)).to(base.model.device)
    predictor = Predictor(base, task, soft, max_new_tokens=manifest.max_new_tokens)
    return WarmPrompt(file, predictor, predictor.num_prefix_bytes)
