"""Generated texts against right ones, a score between 0 and 1 for each row. An empty text is a wrong one."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from softprompt.evaluation.metrics.classification import hits
from softprompt.evaluation.observations import Floats

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WORDS = re.compile(r"[^\W_]+")

exact_match = hits
"""Equal but for white space around."""


def token_f1(targets: Sequence[str], outputs: Sequence[str]) -> Floats:
    """F1 over words, as SQuAD's evaluation script normalises and counts them (Rajpurkar 2016, 2018)."""
    return np.array([_f1(_squad(target), _squad(output)) for target, output in zip(targets, outputs, strict=True)], dtype=float)


def _squad(text: str) -> list[str]:
    """Lower-case words without ASCII punctuation and English articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _f1(target: Sequence[str], output: Sequence[str]) -> float:
    if not target or not output:
        return float(target == output)  # SQuAD 2.0: no answer is right where none is
    shared = (Counter(target) & Counter(output)).total()
    return 2 * shared / (len(target) + len(output))


def rouge(kind: str, targets: Sequence[str], outputs: Sequence[str]) -> Floats:
    """F1 of `rouge1`, `rouge2` or `rougeL` (Lin 2004), by the rouge-score package, no stemming.

    Words are runs of letters and digits of any script; the package's own tokeniser drops everything that is not ASCII.
    """
    scores = _rouge(tuple(targets), tuple(outputs))
    return np.array([score[kind] for score in scores], dtype=float)


class _UnicodeWords:
    """A tokeniser of the rouge-score package."""

    def tokenize(self, text: str) -> list[str]:
        """Words in lower case."""
        return _WORDS.findall(text.lower())


@lru_cache(maxsize=64)
def _rouge(targets: tuple[str, ...], outputs: tuple[str, ...]) -> list[dict[str, float]]:
    """All three for each row; asked for once by every gate, so kept."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=_UnicodeWords())
    pairs = zip(targets, outputs, strict=True)
    return [{kind: score.fmeasure for kind, score in scorer.score(target, output).items()} for target, output in pairs]
