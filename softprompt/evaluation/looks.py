"""What a prompt looks like: the tokens of the vocabulary that are nearest to each vector, for the report."""

import torch

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase
from softprompt.errors import UnsupportedBaseModel
from softprompt.evaluation.gate_report import Look
from softprompt.inspection.inspection import token_text
from softprompt.inspection.nearest import NearestTokens
from softprompt.inspection.spaces import Space, spaces_of, vocabulary

LARGEST_VOCABULARY = 50_000
"""For a deep prompt the base reads every token of the vocabulary once: seconds up to here, minutes beyond."""
NUM_TOKENS = 4


def looks_of(file: PromptFile, base: FrozenBase) -> tuple[str, tuple[Look, ...]]:
    """The space that was compared, and each vector's nearest tokens there; empty where it cannot be done quickly.

    A deep prompt's vectors are compared in the first layer's values: only there a token is all that it can be by itself
    (`softprompt inspect` shows every layer).
    """
    deep = file.manifest.kind == "deep"
    if deep and (base.vocabulary_size > LARGEST_VOCABULARY or base.is_encoder_decoder):
        return "", ()
    place = 1 if deep else 0  # keys of layer 1, values of layer 1, ...
    space = spaces_of(torch.from_numpy(file.values).float())[place]
    nearest = NearestTokens(space.vectors, NUM_TOKENS)
    try:
        for ids, vectors in vocabulary(base, file.manifest.kind, place=0):
            nearest.add(ids, vectors[place])
    except UnsupportedBaseModel:
        return "", ()
    return space.title, tuple(_look(base, space, nearest, vector) for vector in range(len(space.vectors)))


def _look(base: FrozenBase, space: Space, nearest: NearestTokens, vector: int) -> Look:
    return Look(
        vector=vector + 1,
        tokens=tuple(token_text(base, token) for token in nearest.ids[vector].tolist()),
        cosines=tuple(round(cosine, 4) for cosine in nearest.cosines[vector].tolist()),
        norm=round(float(space.vectors[vector].norm()), 4),
    )
