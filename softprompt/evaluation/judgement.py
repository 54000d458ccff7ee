"""From what was seen to the report: every number with its interval, the gates, and one verdict."""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from softprompt.artifact import PromptFile
from softprompt.data.rows import Row
from softprompt.documents import canonical_json, sha256_hex
from softprompt.evaluation.breakdowns import disturbance_scores, slice_scores
from softprompt.evaluation.comparisons import explore
from softprompt.evaluation.curves import abstention_curve, calibration_bins
from softprompt.evaluation.gate_report import GateReport, Look, Measured, RowOutcome, Wear
from softprompt.evaluation.gates import judge, verdict_of
from softprompt.evaluation.labels import confusion, label_scores
from softprompt.evaluation.measure import measure
from softprompt.evaluation.metrics import available
from softprompt.evaluation.observations import Observations
from softprompt.release.statement import format_time
from softprompt.resolve import ResolvedRecipe

CONFIDENCE = 0.95
"""Level of the intervals that no gate asks for."""


def gate_report_of(
    resolved: ResolvedRecipe,
    dataset_digest: str,
    file: PromptFile,
    seen: Observations,
    *,
    wear: Callable[[str], Wear | None] = lambda _: None,
    looks: tuple[str, tuple[Look, ...]] = ("", ()),
) -> GateReport:
    """Measure and judge what was seen."""
    test_rows = test_rows_digest(seen.rows)
    recipe, soft = resolved.recipe, seen.systems["soft_prompt"]
    gates = tuple(judge(gate, seen) for gate in recipe.gates)
    verdict, reason = verdict_of(gates)
    confidences = np.zeros(len(seen.rows)) if soft.probabilities is None else soft.probabilities.max(axis=1)
    return GateReport(
        prompt=file.digest,
        dataset=dataset_digest,
        base_uri=resolved.base.uri,
        base_fingerprint=file.manifest.base_fingerprint,
        numerics=recipe.base_model.dtype,
        task=recipe.task.type,
        evaluated=format_time(time.time()),
        verdict=verdict,
        reason=reason,
        num_test_rows=len(seen.rows),
        test_rows=test_rows,
        gates=gates,
        measured=tuple(_measured(seen)),
        comparisons=explore(seen, CONFIDENCE),
        labels=seen.labels,
        confusion=confusion(seen.labels, seen.targets, soft.outputs),
        by_label=tuple(label_scores(seen.labels, seen.targets, soft.outputs)),
        calibration=calibration_bins(seen.targets, soft),
        abstention=abstention_curve(seen.targets, soft),
        slices=tuple(slice_scores(seen, CONFIDENCE)),
        disturbances=tuple(disturbance_scores(seen, CONFIDENCE)),
        looks_in=looks[0],
        looks=looks[1],
        champion=resolved.champion,
        notes=dict(seen.notes),
        wear=wear(test_rows),
        rows=tuple(
            RowOutcome(
                id=row.id,
                target=row.target,
                outputs={system: answers.outputs[number] for system, answers in seen.systems.items()},
                confidence=round(float(confidences[number]), 6),
                input=row.input_digest[:16],
            )
            for number, row in enumerate(seen.rows)
        ),
    )


def test_rows_digest(rows: Sequence[Row]) -> str:
    """sha256 over inputs and right answers, whatever the order of the rows."""
    return sha256_hex(canonical_json(sorted([row.input_digest, row.target] for row in rows)))


def _measured(seen: Observations) -> Iterator[Measured]:
    for system, answers in seen.systems.items():
        for metric in seen.spec.metrics(seen.task):
            if available(metric, answers):
                found = measure(seen, metric, answers, CONFIDENCE)
                numbers = {"estimate": found.estimate, "low": found.low, "high": found.high}
                yield Measured(system=system, metric=metric, confidence=CONFIDENCE, **numbers)
