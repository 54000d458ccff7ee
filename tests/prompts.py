"""Small prompt files for tests of what happens to a prompt, not of what it says; no torch, so that processes fork cheaply."""

import numpy as np

from softprompt.artifact import PromptFile

BASE = "ba5e" * 16
"""Fingerprint of a base model that nobody has."""


def random_prompt_file(seed: int, *, num_tokens: int = 4, width: int = 8, base: str = BASE) -> PromptFile:
    """A shallow prompt for free text `[num_tokens, width]`; each seed another one."""
    return PromptFile.build(
        np.random.default_rng(seed).normal(size=(num_tokens, width)).astype(np.float32),
        task="generation",
        template="{text}",
        template_examples=(),
        answers=(),
        max_new_tokens=8,
        base_fingerprint=base,
    )
