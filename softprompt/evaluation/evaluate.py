"""The step `evaluate_prompt`: always succeeds, and returns one verdict."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase, load_base_model
from softprompt.data.dataset import read_baseline, read_manifest, read_part
from softprompt.data.rows import Row
from softprompt.engine.predictor import Prediction, Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.errors import FingerprintMismatch
from softprompt.evaluation.gates import GateReport, LabelScores, Measured, RowOutcome, System, judge, measure, verdict_of
from softprompt.evaluation.report import write_evaluation_report
from softprompt.fetch import fetch_base
from softprompt.progress import tell
from softprompt.recipe import METRICS_OF_TASK, Recipe
from softprompt.release.statement import format_time
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.training_log import TrainingLog

STEP = "evaluate_prompt"
CONFIDENCE = 0.95
"""Level of the intervals that no gate asks for."""


def evaluate_prompt(
    resolved: ResolvedRecipe, dataset: Path, prompt: Path, training_log: Path, gate_report: Path, report: Path
) -> GateReport:
    """Measure a prompt on the test rows, compare it with what it replaces, and judge it.

    Args:
        resolved: The recipe.
        dataset: Dataset artifact.
        prompt: Directory of the prompt file.
        training_log: The training's log, for the report.
        gate_report: File to write the GateReport to.
        report: File to write the HTML page to.

    Raises:
        FingerprintMismatch: The prompt was trained on another base.
    """
    recipe = resolved.recipe
    file = PromptFile.read(prompt)
    base = load_base(resolved, file)
    rows = read_part(dataset, "test")
    predictions = predict_all(recipe, base, file, rows)
    classical = read_baseline(dataset, "test")
    result = gate_report_of(resolved, read_manifest(dataset).content_digest, file, rows, predictions, classical)
    gate_report.write_bytes(result.to_bytes())
    log = TrainingLog.from_bytes(training_log.read_bytes(), source=str(training_log))
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


def predict_all(recipe: Recipe, base: FrozenBase, file: PromptFile, rows: Sequence[Row]) -> dict[System, list[Prediction]]:
    """Predictions of the soft prompt and of everything it is compared with, on the same rows."""
    task = EncodedTask.of_manifest(base.text, file.manifest)
    soft = SoftPrompt(torch.from_numpy(file.values)).to(base.model.device)
    systems: dict[System, tuple[EncodedTask, SoftPrompt | None]] = {"soft_prompt": (task, soft), "bare_base": (task, None)}
    if recipe.evaluation.instruction:
        systems["instruction"] = (EncodedTask.create(base.text, recipe.evaluation.instruction, file.manifest.answers), None)
    found: dict[System, list[Prediction]] = {}
    for number, (system, (its_task, prompt)) in enumerate(systems.items(), start=1):
        predictor = Predictor(
            base, its_task, prompt, batch_size=recipe.evaluation.batch_size, max_new_tokens=file.manifest.max_new_tokens
        )
        found[system] = predictor.predict([row.inputs for row in rows])
        tell(STEP, f"{system}: {len(rows)} test rows answered", done=number, total=len(systems))
    return found


def gate_report_of(
    resolved: ResolvedRecipe,
    dataset_digest: str,
    file: PromptFile,
    rows: Sequence[Row],
    predictions: Mapping[System, Sequence[Prediction]],
    classical: Sequence[str],
) -> GateReport:
    """Measure and judge predictions, and the answers of the classical baseline, where there are any."""
    recipe = resolved.recipe
    targets = [row.target for row in rows]
    outputs = {system: [prediction.output for prediction in found] for system, found in predictions.items()}
    if classical:
        outputs["classical"] = list(classical)
    samples = recipe.evaluation.bootstrap_samples
    gates = tuple(judge(gate, targets, outputs, samples) for gate in recipe.gates)
    verdict, reason = verdict_of(gates)
    labels = tuple(answer.label for answer in file.manifest.answers)
    confusion = _confusion(labels, targets, outputs["soft_prompt"])
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
        num_test_rows=len(rows),
        gates=gates,
        measured=_measured(recipe, targets, outputs),
        labels=labels,
        confusion=tuple(tuple(row) for row in confusion),
        by_label=_by_label(labels, confusion),
        rows=tuple(
            RowOutcome(
                id=row.id,
                target=row.target,
                outputs={system: said[number] for system, said in outputs.items()},
                confidence=round(predictions["soft_prompt"][number].confidence, 6),
            )
            for number, row in enumerate(rows)
        ),
    )


def headline(report: GateReport) -> dict[str, dict[str, float]]:
    """System -> metric -> estimate."""
    systems: dict[str, dict[str, float]] = {}
    for found in report.measured:
        systems.setdefault(found.system, {})[found.metric] = found.estimate
    return systems


def _measured(recipe: Recipe, targets: Sequence[str], outputs: Mapping[System, Sequence[str]]) -> tuple[Measured, ...]:
    found = []
    for system, said in outputs.items():
        for metric in METRICS_OF_TASK[recipe.task.type]:
            interval = measure(metric, targets, said, CONFIDENCE, recipe.evaluation.bootstrap_samples)
            numbers = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
            found.append(Measured(system=system, metric=metric, confidence=CONFIDENCE, **numbers))
    return tuple(found)


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
