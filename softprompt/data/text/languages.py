"""The language of a text, where the text is long enough to tell."""

import functools
from typing import Any

LEAST_CHARACTERS = 20
LEAST_PROBABILITY = 0.8
"""Measured on the 13,083 English messages of Banking77 with py3langid 0.4: of the 12,981 with 20 characters or more, 92 %
reach this probability and none of them is taken for another language; at 0.7 two are, at 0.5 nine, at any 28."""


def languages(texts: list[str]) -> list[str]:
    """The language of each text.

    Args:
        texts: Any texts.

    Returns:
        ISO 639-1 codes (three letters where there is no such code), parallel to `texts`; '' where a text is too short or too
        ambiguous for a verdict.
    """
    classify = _identifier().classify
    return [_verdict(*classify(text)) if len(text) >= LEAST_CHARACTERS else "" for text in texts]


def _verdict(language: str, probability: float) -> str:
    return language if probability >= LEAST_PROBABILITY else ""


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
