"""Scores of a whole corpus: what rows are made of is summed first, then scored once.

A mean of row scores would be another number, so resamples are drawn from the rows' summands.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from softprompt.errors import InvalidRequest, UnsupportedBaseModel
from softprompt.evaluation.observations import Answers, Floats


def bleu(targets: Sequence[str], outputs: Sequence[str]) -> Callable[[Floats], Floats]:
    """BLEU (Papineni 2002) of sacrebleu with its default tokeniser, 0 to 1."""
    return _sacrebleu("BLEU", targets, outputs)


def chrf(targets: Sequence[str], outputs: Sequence[str]) -> Callable[[Floats], Floats]:
    """chrF2 (Popović 2015) of sacrebleu, 0 to 1."""
    return _sacrebleu("CHRF", targets, outputs)


def bleu_scores(targets: Sequence[str], outputs: Sequence[str]) -> Floats:
    """`[n]`, BLEU of single rows, up to as many words in a row as there are (sacrebleu's effective order)."""
    return _sentences(_scorer("BLEU", effective_order=True), targets, outputs)


def chrf_scores(targets: Sequence[str], outputs: Sequence[str]) -> Floats:
    """`[n]`, chrF2 of single rows."""
    return _sentences(_scorer("CHRF"), targets, outputs)


def length_ratio(targets: Sequence[str], outputs: Sequence[str]) -> Callable[[Floats], Floats]:
    """Words said for each word of the right answers."""
    said, right = (np.array([len(text.split()) for text in texts], dtype=float) for texts in (outputs, targets))
    if not right.any():
        raise InvalidRequest("The right answers have no words, so that a ratio of lengths has no meaning.")
    return lambda weights: np.asarray(weights @ said / (weights @ right))


def perplexity(answers: Answers) -> Callable[[Floats], Floats]:
    """`exp` of the right answers' mean negative log-likelihood a token."""
    nats, tokens = answers.target_nats, answers.target_tokens
    assert nats is not None, "ask `available` first"
    assert tokens is not None, "both or none"
    wrong = np.flatnonzero(~(np.isfinite(nats) & (tokens > 0)))
    if wrong.size:
        raise UnsupportedBaseModel(
            "The right answer has no likelihood.",
            where=f"test row {wrong[0] + 1} (counted from 1) and {wrong.size - 1} more",
            expected="a finite number of nats over one token or more",
            actual=f"{nats[wrong[0]]:g} nats over {tokens[wrong[0]]:g} tokens",
            hint="NaN comes of numbers too large for the format; set base_model.dtype to float32 or bfloat16.",
        )
    return lambda weights: np.exp(weights @ nats / (weights @ tokens))


def _scorer(name: str, **options: Any) -> Any:
    import sacrebleu.metrics

    return getattr(sacrebleu.metrics, name)(**options)


def _sentences(scorer: Any, targets: Sequence[str], outputs: Sequence[str]) -> Floats:
    pairs = zip(targets, outputs, strict=True)
    return np.array([scorer.sentence_score(output, [target]).score / 100 for target, output in pairs], dtype=float)


def _sacrebleu(name: str, targets: Sequence[str], outputs: Sequence[str]) -> Callable[[Floats], Floats]:
    """The same two calls as in `sacrebleu.significance`, which resamples corpora too; the package has no public ones."""
    scorer, summands = _scorer(name), _summands(name, tuple(targets), tuple(outputs))

    def value(weights: Floats) -> Floats:
        sums = np.rint(weights @ summands).astype(int).tolist()
        return np.array([scorer._compute_score_from_stats(row).score / 100 for row in sums])

    return value


@lru_cache(maxsize=64)
def _summands(name: str, targets: tuple[str, ...], outputs: tuple[str, ...]) -> Floats:
    """`[n, k]`, matches, totals and lengths of each row."""
    return np.array(_scorer(name)._extract_corpus_statistics(outputs, [targets]), dtype=float)
