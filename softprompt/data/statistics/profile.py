"""What a dataset looks like in numbers: small enough to keep for good, and poor enough in content to be kept.

It holds counts, quantiles and frequent words, never a row. A word is kept only where many rows have it and it is made of letters
alone, so that numbers, addresses and rare names stay out; a name that many rows have does stay in.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from softprompt.data.statistics.text_model import WORD
from softprompt.documents import Document

FEWEST_ROWS_A_WORD = 5
MOST_WORDS = 2_000
LONGEST_WORD = 30
"""Characters; longer runs of letters are no words of a language."""
MOST_LABELS = 1_000
NUM_QUANTILES = 101
"""Of lengths: the least, every percentile, the largest."""

_WORD = re.compile(WORD)


class DatasetProfile(Document):
    """A dataset in numbers."""

    max_bytes: ClassVar[int] = 200_000

    schema_version: Literal[1] = 1
    num_rows: int
    labels: dict[str, int]
    """Rows of each label, the most frequent 1,000; empty for a generation."""
    characters: tuple[int, ...]
    """Length of a text in characters: the least, every percentile, the largest; empty without rows."""
    tokens: tuple[int, ...]
    """The same in tokens of the base; empty if these were not counted."""
    words: dict[str, int]
    """In how many rows each of the 2,000 most frequent words stands; words of letters, in at least five rows."""
    num_words: int
    """The sum of such counts over all words, kept or not."""
    languages: dict[str, int]
    """Rows of each language or script; empty if these were not told."""


def profile_of(
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    num_tokens: Sequence[int] | None = None,
    languages: Mapping[str, int] | None = None,
) -> DatasetProfile:
    """Describe a dataset.

    Args:
        texts: Texts `[n]`.
        labels: Their labels `[n]`; empty for a generation.
        num_tokens: Tokens of each text `[n]`, if counted.
        languages: Rows of each language or script, if told.
    """
    words, num_words = _frequent_words(texts)
    return DatasetProfile(
        num_rows=len(texts),
        labels=dict(_most_common(Counter(labels), MOST_LABELS)),
        characters=_quantiles([len(text) for text in texts]),
        tokens=_quantiles(num_tokens or ()),
        words=words,
        num_words=num_words,
        languages=dict(languages or {}),
    )


def _frequent_words(texts: Sequence[str]) -> tuple[dict[str, int], int]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(_WORD.findall(text.lower())))
    kept = Counter({word: count for word, count in counts.items() if _may_be_kept(word, count)})
    return dict(_most_common(kept, MOST_WORDS)), counts.total()


def _may_be_kept(word: str, num_rows: int) -> bool:
    return num_rows >= FEWEST_ROWS_A_WORD and word.isalpha() and len(word) <= LONGEST_WORD


def _most_common(counts: Counter[str], most: int) -> list[tuple[str, int]]:
    """As Counter.most_common, with equal counts in alphabetical order, whatever order they came in."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]


def _quantiles(lengths: Sequence[int]) -> tuple[int, ...]:
    if not len(lengths):
        return ()
    places = np.linspace(0, 1, NUM_QUANTILES)
    return tuple(int(length) for length in np.quantile(np.asarray(lengths), places, method="inverted_cdf"))
