"""The step `evaluate_prompt`: always succeeds, and returns one verdict."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase, load_base_model
from softprompt.data.dataset import read_manifest
from softprompt.data.rows import Row
from softprompt.documents import canonical_json, sha256_hex
from softprompt.errors import FingerprintMismatch
from softprompt.evaluation.breakdowns import disturbance_scores, slice_scores
from softprompt.evaluation.gate_report import GateReport, LabelScores, Look, Measured, RowOutcome, Wear
from softprompt.evaluation.gates import judge, verdict_of
from softprompt.evaluation.looks import looks_of
from softprompt.evaluation.measure import measure
from softprompt.evaluation.metrics import available
from softprompt.evaluation.observations import Observations
from softprompt.evaluation.report import write_evaluation_report
from softprompt.evaluation.systems import STEP, observe
from softprompt.fetch import fetch_base
from softprompt.progress import tell
from softprompt.release.statement import format_time
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.training_log import TrainingLog

CONFIDENCE = 0.95
"""Level of the intervals that no gate asks for."""


def evaluate_prompt(
    resolved: ResolvedRecipe,
    dataset: Path,
    prompt: Path,
    training_log: Path,
    gate_report: Path,
    report: Path,
    wear: Callable[[str], Wear | None] = lambda _: None,
) -> GateReport:
    """Measure a prompt on the test rows, compare it with what it replaces, and judge it.

    Args:
        resolved: The recipe.
        dataset: Dataset artifact.
        prompt: Directory of the prompt file.
        training_log: The training's log, for the report.
        gate_report: File to write the GateReport to.
        report: File to write the HTML page to.
        wear: Says how often test rows with a digest have judged before; for those who have a registry to ask.

    Raises:
        FingerprintMismatch: The prompt was trained on another base.
    """
    file = PromptFile.read(prompt)
    log = TrainingLog.from_bytes(training_log.read_bytes(), source=str(training_log))
    base = load_base(resolved, file)
    seen = observe(resolved, base, file, dataset, log)
    result = gate_report_of(resolved, read_manifest(dataset).content_digest, file, seen, wear=wear, looks=looks_of(file, base))
    gate_report.write_bytes(result.to_bytes())
    write_evaluation_report(report, resolved, result, log, file)
    tell(STEP, result.reason, verdict=result.verdict, metrics=headline(result))
    return result


def load_base(resolved: ResolvedRecipe, file: PromptFile) -> FrozenBase:
    """The base that a prompt was trained on. FingerprintMismatch: the recipe names another."""
    if file.manifest.base_fingerprint != resolved.base.fingerprint:
        raise FingerprintMismatch(
            "The prompt was trained on another base model.",
            where=resolved.base.uri,
            expected=file.manifest.base_fingerprint,
            actual=resolved.base.fingerprint,
        )
    return load_base_model(
        fetch_base(resolved.base.uri), dtype=resolved.recipe.base_model.dtype, expected_fingerprint=resolved.base.fingerprint
    )


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
    confusion = _confusion(seen.labels, seen.targets, soft.outputs)
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
        labels=seen.labels,
        confusion=tuple(tuple(row) for row in confusion),
        by_label=_by_label(seen.labels, confusion),
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


def headline(report: GateReport) -> dict[str, dict[str, float]]:
    """System -> metric -> estimate."""
    systems: dict[str, dict[str, float]] = {}
    for found in report.measured:
        systems.setdefault(found.system, {})[found.metric] = found.estimate
    return systems


def _measured(seen: Observations) -> Iterator[Measured]:
    for system, answers in seen.systems.items():
        for metric in seen.spec.metrics(seen.task):
            if available(metric, answers):
                found = measure(seen, metric, answers, CONFIDENCE)
                numbers = {"estimate": found.estimate, "low": found.low, "high": found.high}
                yield Measured(system=system, metric=metric, confidence=CONFIDENCE, **numbers)


def _confusion(labels: Sequence[str], targets: Sequence[str], outputs: Sequence[str]) -> list[list[int]]:
    """Counts, rows true and columns said; empty for a generation."""
    if not labels:
        return []
    from sklearn.metrics import confusion_matrix

    matrix: list[list[int]] = confusion_matrix(targets, outputs, labels=list(labels)).tolist()
    return matrix


def _by_label(labels: Sequence[str], confusion: list[list[int]]) -> tuple[LabelScores, ...]:
    if not labels:
        return ()
    counts = np.array(confusion, dtype=float)
    hits, said, true = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0)
    recall = np.divide(hits, true, out=np.zeros_like(hits), where=true > 0)
    f1 = np.divide(2 * hits, said + true, out=np.zeros_like(hits), where=said + true > 0)
    return tuple(
        LabelScores(label=label, precision=float(p), recall=float(r), f1=float(f), num_rows=int(n))
        for label, p, r, f, n in zip(labels, precision, recall, f1, true, strict=True)
    )
