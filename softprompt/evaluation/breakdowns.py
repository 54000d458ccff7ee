"""The soft prompt's first metric, broken down: by slice of the rows, and by what is done to the input. Evidence, not gates."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from softprompt.evaluation.gate_report import DisturbanceScores, SliceScores
from softprompt.evaluation.measure import measure, measure_difference
from softprompt.evaluation.observations import Observations
from softprompt.recipe.gates import METRICS_OF_TASK

MOST_SLICES = 100
"""Of one column; a column with more values names no groups of people."""


def slice_scores(seen: Observations, confidence: float) -> Iterator[SliceScores]:
    """Each value of each subgroup column, the frequent ones first."""
    metric, soft = METRICS_OF_TASK[seen.task][0], seen.systems["soft_prompt"]
    for column in sorted({column for row in seen.rows for column in row.subgroups}):
        values = [row.subgroups.get(column, "") for row in seen.rows]
        for value, count in Counter(values).most_common(MOST_SLICES):
            if value:
                rows = np.array([each == value for each in values], dtype=bool)
                found = measure(seen, metric, soft, confidence, rows)
                numbers = {"estimate": found.estimate, "low": found.low, "high": found.high}
                yield SliceScores(column=column, value=value, num_rows=count, **numbers)


def disturbance_scores(seen: Observations, confidence: float) -> Iterator[DisturbanceScores]:
    """Each disturbance beside the same rows undisturbed; positive drops are losses."""
    metric, soft = METRICS_OF_TASK[seen.task][0], seen.systems["soft_prompt"]
    for kind, disturbed in seen.disturbed.items():
        if kind == "empty":  # nothing is the right answer to nothing; its gate asks for a valid one
            continue
        there = seen.only(disturbed.rows)
        clean = soft.at(disturbed.rows)
        drop = measure_difference(there, metric, clean, disturbed.answers, confidence)
        yield DisturbanceScores(
            perturbation=kind,
            num_rows=len(disturbed.rows),
            clean=measure(there, metric, clean, confidence).estimate,
            disturbed=measure(there, metric, disturbed.answers, confidence).estimate,
            drop=drop.estimate,
            low=drop.low,
            high=drop.high,
            example=disturbed.examples[0] if disturbed.examples else None,
        )
