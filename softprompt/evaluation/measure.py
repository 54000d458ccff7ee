"""One metric of one system, or the difference of two, with its confidence interval."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from softprompt.evaluation.intervals import Interval, bootstrap_interval, exact_interval, paired_difference, unseen
from softprompt.evaluation.metrics import PROPORTIONS, Statistic, row_scores, statistic
from softprompt.evaluation.observations import Answers, Booleans, Floats, Observations
from softprompt.recipe.gates import UNBOUNDED, Metric

OF_LABELS: frozenset[Metric] = frozenset({"balanced_accuracy", "macro_precision", "macro_recall", "macro_f1"})
"""Means over labels: one row of a rare label moves them more than one of a frequent label."""

UNSIMULATED: frozenset[Metric] = frozenset({"bleu", "chrf", "perplexity", "length_ratio"})
SIMULATED_ROWS = 50
CALIBRATION_ROWS = 400


def measure(seen: Observations, metric: Metric, answers: Answers, confidence: float, rows: Booleans | None = None) -> Interval:
    """A metric with its interval: exact for proportions, bootstrap for the rest.

    Args:
        seen: What was seen; its rows' targets count.
        metric: Which.
        answers: A system's, to all rows of `seen`.
        confidence: Level of the two-sided interval.
        rows: `[n]`, only these; None: all.

    Raises:
        InvalidRequest: There are no such rows.
    """
    targets, answers = on_rows(seen, answers, rows)
    if metric in PROPORTIONS:
        scores = row_scores(metric, targets, answers, seen.labels, seen.spec)
        return exact_interval(int(scores.sum()), len(scores), confidence)
    value = statistic(metric, targets, answers, seen.labels, seen.spec)
    found = _bootstrapped(seen, metric, value, targets, confidence, wide=metric == "ece")
    return Interval(found.estimate, max(found.low, 0.0), found.high if metric in UNBOUNDED | {"brier"} else min(found.high, 1.0))


def measure_difference(
    seen: Observations, metric: Metric, mine: Answers, theirs: Answers, confidence: float, rows: Booleans | None = None
) -> Interval:
    """The paired difference of a metric, mine less theirs, on the same rows. Arguments and errors as in `measure`."""
    if metric in PROPORTIONS:
        only_mine, only_theirs, num_rows = discordant(seen, metric, mine, theirs, rows)
        return paired_difference(only_mine, only_theirs, num_rows, confidence)
    value = paired_statistic(seen, metric, mine, theirs, rows)
    targets, _ = on_rows(seen, mine, rows)
    return _bootstrapped(seen, metric, value, targets, confidence, wide=True)


def _bootstrapped(
    seen: Observations, metric: Metric, value: Statistic, targets: Sequence[str], confidence: float, *, wide: bool
) -> Interval:
    return bootstrap_interval(
        value,
        len(targets),
        confidence,
        seen.spec.bootstrap_samples,
        reach=reach_of(metric, targets, confidence),
        wide=wide,
    )


def discordant(
    seen: Observations, metric: Metric, mine: Answers, theirs: Answers, rows: Booleans | None = None
) -> tuple[int, int, int]:
    """Rows on which only mine succeeds, rows on which only theirs does, all rows. The metric is one of PROPORTIONS."""
    first, second = (
        row_scores(metric, *on_rows(seen, answers, rows), seen.labels, seen.spec).astype(bool) for answers in (mine, theirs)
    )
    return int((first & ~second).sum()), int((second & ~first).sum()), len(first)


def paired_statistic(
    seen: Observations, metric: Metric, mine: Answers, theirs: Answers, rows: Booleans | None = None
) -> Statistic:
    """The difference of a metric under the same weights for both."""
    first, second = (statistic(metric, *on_rows(seen, answers, rows), seen.labels, seen.spec) for answers in (mine, theirs))

    def difference(weights: Floats) -> Floats:
        return first(weights) - second(weights)

    return difference


def reach_of(metric: Metric, targets: Sequence[str], confidence: float) -> float:
    """How far the truth may lie from the estimate without a sign of it in these rows; 0 for a metric without bounds.

    For a mean over labels: as far as errors on the rarest label, of which nothing was seen, could move it.
    """
    if metric in UNBOUNDED:
        return 0.0
    if metric not in OF_LABELS:
        return unseen(len(targets), confidence)
    counts = Counter(targets)
    return unseen(min(counts.values()), confidence) / len(counts)


def level_note(metric: Metric, num_rows: int, *, paired: bool = False) -> str:
    """What a reviewer should know about the level of a metric's interval; empty where simulations show that it is kept.

    Args:
        metric: Which.
        num_rows: Rows behind it.
        paired: It is the interval of a difference to a baseline.

    The figures are in `docs/evaluation.md`, "How often the gates err".
    """
    if metric in PROPORTIONS:
        return ""
    if num_rows < SIMULATED_ROWS:
        return f"an interval by bootstrap; how often it errs was not simulated below {SIMULATED_ROWS} rows"
    if metric in UNSIMULATED:
        return "an interval by bootstrap; how often it errs was not simulated for this metric"
    if paired:
        return "a bootstrapped difference; with few rows won and lost it passed wrongly in up to 5 % instead of 2.5 %"
    if metric == "ece" and num_rows < CALIBRATION_ROWS:
        return f"a calibration error looks larger on few rows; with fewer than {CALIBRATION_ROWS} a ceiling is rarely passed"
    return ""


def on_rows(seen: Observations, answers: Answers, rows: Booleans | None) -> tuple[list[str], Answers]:
    """Targets and answers of some rows."""
    if rows is None:
        return list(seen.targets), answers
    targets = seen.targets
    return [targets[row] for row in np.flatnonzero(rows)], answers.at(rows)
