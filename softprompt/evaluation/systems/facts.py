"""The prompt's own numbers: what it takes of context and storage, how large its vectors are beside tokens', how far it moved."""

from collections.abc import Sequence

import numpy as np
import torch

from softprompt.artifact import PromptFile
from softprompt.data.rows import Row
from softprompt.engine.real_tokens import token_values
from softprompt.evaluation.observations import Floats, PromptFacts
from softprompt.evaluation.systems.base_system import BaseSystem
from softprompt.evaluation.systems.latency import added_latency_ms
from softprompt.tuning.training_log import TrainingLog

MOST_REAL_TOKENS = 512
"""Tokens of test rows whose keys and values a deep prompt's are compared with."""


def facts_of(soft: BaseSystem, file: PromptFile, rows: Sequence[Row], log: TrainingLog | None) -> PromptFacts:
    """Facts about a prompt.

    Args:
        soft: The base behind it.
        file: The prompt.
        rows: Rows that it is asked.
        log: Of the training; None: how far it moved is not known.
    """
    return PromptFacts(
        num_tokens=file.manifest.num_tokens,
        num_bytes=len(file.tensor) + len(file.manifest.to_bytes()),
        finite=bool(np.isfinite(file.values).all()),
        norms=relative_norms(soft, file, rows),
        moved=log.moved if log else None,
        latency_ms=added_latency_ms(soft, rows),
    )


def relative_norms(soft: BaseSystem, file: PromptFile, rows: Sequence[Row]) -> Floats:
    """Norms of the prompt's vectors, 1 for the largest among real tokens'.

    Returns:
        `[P]`, beside the embedding table (shallow); `[L * 2 * P]`, the keys and values of each layer beside those of the rows'
        tokens there (deep).
    """
    values = torch.from_numpy(file.values)
    if file.manifest.kind == "shallow":
        return _floats(values.norm(dim=-1) / soft.base.largest_embedding_norm)
    ids = [token for row_ids in soft.input_ids(rows) for token in row_ids]
    real = token_values(soft.base, ids[: min(MOST_REAL_TOKENS, soft.base.text.context_tokens)], "deep")
    largest = real.flatten(3).norm(dim=-1).amax(dim=2, keepdim=True)  # [L, 2, 1]
    return _floats((values.flatten(3).norm(dim=-1) / largest).flatten())


def _floats(values: torch.Tensor) -> Floats:
    return values.double().numpy()
