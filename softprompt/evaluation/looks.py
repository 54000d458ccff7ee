"""What a prompt looks like: the tokens of the vocabulary that are nearest to each vector, for the report."""

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase
from softprompt.evaluation.gate_report import Look
from softprompt.inspection.inspection import inspect_prompt

LARGEST_VOCABULARY = 50_000
"""For a deep prompt the base reads every token of the vocabulary once: seconds up to here, minutes beyond."""
NUM_TOKENS = 4


def looks_of(file: PromptFile, base: FrozenBase) -> tuple[str, tuple[Look, ...]]:
    """The space that was compared, and each vector's nearest tokens there; empty where it cannot be done quickly.

    A deep prompt's vectors are compared in the first layer's values: only there a token is all that it can be by itself
    (`softprompt inspect` shows every layer).
    """
    if file.manifest.kind == "deep" and base.vocabulary_size > LARGEST_VOCABULARY:
        return "", ()
    compared = inspect_prompt(file, base, (), name="", rows_from="", base_uri="").compared
    if not compared:
        return "", ()
    space = compared[0]
    return space.title, tuple(
        Look(
            vector=number,
            tokens=tuple(token.text for token in tokens[:NUM_TOKENS]),
            cosines=tuple(round(token.cosine, 4) for token in tokens[:NUM_TOKENS]),
            norm=round(norm, 4),
        )
        for number, (tokens, norm) in enumerate(zip(space.nearest, space.norms.prompt, strict=True), start=1)
    )
