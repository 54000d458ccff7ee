"""Exploratory comparisons: the soft prompt against everything else that answered, whether a gate asked for it or not.

Gates judge each at its own level. These were picked by nobody, so their p-values are corrected for being many.
"""

from collections.abc import Iterator

import numpy as np

from softprompt.evaluation.bootstrap import bootstrap_samples, wide_limits
from softprompt.evaluation.gate_report import Comparison
from softprompt.evaluation.intervals import Interval, difference_of_proportions
from softprompt.evaluation.measure import (
    discordant,
    level_note,
    measure_difference,
    paired_statistic,
    reach_of,
)
from softprompt.evaluation.metrics import PROPORTIONS, available, row_scores, statistic
from softprompt.evaluation.observations import Earlier, Observations
from softprompt.evaluation.significance import bootstrap_p, fisher_p, holm, mcnemar_mid_p
from softprompt.recipe.gates import LOWER_IS_BETTER, Metric

EARLIER = "earlier"
"""The soft prompt itself on the test rows of an earlier dataset."""


def explore(seen: Observations, confidence: float) -> tuple[Comparison, ...]:
    """The soft prompt against every other system on the task's first two metrics, and against itself on earlier rows.

    A system with no comparable row, or that cannot give what a metric needs, is left out.

    Args:
        seen: What was seen.
        confidence: Level of the two-sided intervals.
    """
    found = [*_paired(seen, confidence), *_unpaired(seen, confidence)]
    corrected = holm([comparison.p_value for comparison in found])
    return tuple(comparison.model_copy(update={"p_holm": p_holm}) for comparison, p_holm in zip(found, corrected, strict=True))


def _paired(seen: Observations, confidence: float) -> Iterator[Comparison]:
    mine = seen.systems["soft_prompt"]
    for system, theirs in seen.systems.items():
        rows = seen.comparable_rows(system)
        if system == "soft_prompt" or not rows.any():
            continue
        for metric in _metrics(seen):
            if available(metric, mine) and available(metric, theirs):
                interval = measure_difference(seen, metric, mine, theirs, confidence, rows)
                if metric in PROPORTIONS:
                    only_mine, only_theirs, _ = discordant(seen, metric, mine, theirs, rows)
                    p_value = mcnemar_mid_p(only_mine, only_theirs)
                else:
                    value = paired_statistic(seen, metric, mine, theirs, rows)
                    samples = bootstrap_samples(value, int(rows.sum()), seen.spec.bootstrap_samples)
                    p_value = bootstrap_p(samples, interval.estimate)
                yield _comparison(system, metric, interval, confidence, p_value, int(rows.sum()))


def _unpaired(seen: Observations, confidence: float) -> Iterator[Comparison]:
    if seen.earlier is None or not seen.earlier.rows or not seen.rows:
        return
    for metric in _metrics(seen):
        if available(metric, seen.systems["soft_prompt"]) and available(metric, seen.earlier.answers):
            interval, p_value = _since(seen, seen.earlier, metric, confidence)
            yield _comparison(EARLIER, metric, interval, confidence, p_value, len(seen.rows))


def _metrics(seen: Observations) -> tuple[Metric, ...]:
    return seen.spec.metrics(seen.task)[:2]


def _since(seen: Observations, earlier: Earlier, metric: Metric, confidence: float) -> tuple[Interval, float]:
    """The soft prompt now less the soft prompt on earlier rows, which are other rows; and the test's p-value."""
    asked = [(list(seen.targets), seen.systems["soft_prompt"]), ([row.target for row in earlier.rows], earlier.answers)]
    if metric in PROPORTIONS:
        scores = [row_scores(metric, targets, answers, seen.labels, seen.spec) for targets, answers in asked]
        (right, rows), (right_then, rows_then) = ((int(score.sum()), len(score)) for score in scores)
        interval = difference_of_proportions(right, rows, right_then, rows_then, confidence)
        return interval, fisher_p(right, rows, right_then, rows_then)
    values = [statistic(metric, targets, answers, seen.labels, seen.spec) for targets, answers in asked]
    sizes = [len(targets) for targets, _ in asked]
    now, then = (float(value(np.ones((1, size)))[0]) for value, size in zip(values, sizes, strict=True))
    drawn = [bootstrap_samples(value, size, seen.spec.bootstrap_samples) for value, size in zip(values, sizes, strict=True)]
    # Equally many rows are drawn alike, in pairs; another order makes the two independent.
    samples = drawn[0] - np.random.default_rng(0).permutation(drawn[1])
    low, high = wide_limits(samples, np.asarray(now - then), confidence)
    reach = max(reach_of(metric, targets, confidence) for targets, _ in asked)
    interval = Interval(now - then, min(float(low), now - then - reach), max(float(high), now - then + reach))
    return interval, bootstrap_p(samples, now - then)


def _comparison(
    baseline: str, metric: Metric, interval: Interval, confidence: float, p_value: float, num_rows: int
) -> Comparison:
    if metric in LOWER_IS_BETTER:
        interval = interval.negated()
    return Comparison(
        baseline=baseline,
        metric=metric,
        difference=interval.estimate,
        low=interval.low,
        high=interval.high,
        confidence=confidence,
        p_value=min(p_value, 1.0),
        p_holm=1.0,
        num_rows=num_rows,
        note=level_note(metric, num_rows, paired=True),
    )
