"""Accuracy against the gap between groups, for every weight that was trained, on the same validation rows."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from softprompt.engine.fairness import belongs, largest_gap
from softprompt.recipe.training import FairnessSpec
from softprompt.tuning.fair_training import judged_cells
from softprompt.tuning.job import Job
from softprompt.tuning.training_log import TradeOff, TradeOffPoint

RESAMPLES, SEED = 1000, 20_260_000


def trade_off(
    job: Job, spec: FairnessSpec, predicted: Mapping[int, Tensor], weights: Mapping[int, float | None], winner: int
) -> TradeOff:
    """Measure every run that was trained to its end.

    Args:
        job: With groups.
        spec: What was asked for.
        predicted: Run -> `[R]`, the answer it gives to each validation row.
        weights: Run -> weight of its objective.
        winner: The run that was kept.
    """
    assert job.groups is not None
    groups = torch.tensor([example.group for example in job.validation])
    points = [
        TradeOffPoint(candidate=run, weight=weights[run] or 0.0, accuracy=_accuracy(job, found), gap=_gap(job, spec, found))
        for run, found in predicted.items()
    ]
    return TradeOff(
        column=spec.column,
        criterion=spec.criterion,
        method=spec.method,
        label=spec.label,
        num_rows_by_group={name: int((groups == place).sum()) for place, name in enumerate(job.groups.names)},
        max_accuracy_loss=spec.max_accuracy_loss if spec.weights else None,
        points=tuple(sorted(points, key=lambda point: (point.weight, point.candidate))),
        kept=winner,
    )


def _accuracy(job: Job, predicted: Tensor) -> tuple[float, float, float]:
    from scipy.stats import binomtest

    right = int((predicted == torch.tensor([example.answer for example in job.validation])).sum())
    bounds = binomtest(right, len(predicted)).proportion_ci(0.95, method="exact")
    return right / len(predicted), float(bounds.low), float(bounds.high)


def _gap(job: Job, spec: FairnessSpec, predicted: Tensor) -> tuple[float, float, float]:
    """The largest gap, and its percentile bootstrap, which lies rather high: resampling adds noise, and a maximum collects it."""
    assert job.groups is not None
    answers = torch.tensor([example.answer for example in job.validation])
    groups = torch.tensor([example.group for example in job.validation])
    num_labels, num_groups = len(job.task.labels), len(job.groups.names)
    member = (groups[:, None] == torch.arange(num_groups)).float()
    rows = torch.einsum("bg,cbl->bcgl", member, belongs(spec.criterion, answers, num_labels))
    said = rows * torch.nn.functional.one_hot(predicted, num_labels).float()[:, None, None]
    known = judged_cells(job, spec, rows.sum(dim=0))
    drawn = np.random.default_rng(SEED).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=RESAMPLES)
    times = torch.cat([torch.ones(1, len(rows)), torch.from_numpy(drawn).float()])
    shares = (times @ said.flatten(1)) / (times @ rows.flatten(1)).clamp_min(1)
    estimate, *samples = largest_gap(shares.reshape(-1, *known.shape), known).tolist()
    low, high = np.quantile(samples, [0.025, 0.975])
    return estimate, min(estimate, float(low)), max(estimate, float(high))
