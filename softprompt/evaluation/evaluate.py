"""The step `evaluate_prompt`: always succeeds, and returns one verdict."""

from collections.abc import Callable
from pathlib import Path

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase, visible_device
from softprompt.data.dataset import read_manifest
from softprompt.errors import FingerprintMismatch
from softprompt.evaluation.gate_report import GateReport, Wear
from softprompt.evaluation.judgement import gate_report_of
from softprompt.evaluation.looks import looks_of
from softprompt.evaluation.report import write_evaluation_report
from softprompt.evaluation.systems import STEP, observe
from softprompt.progress import tell
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.job import load_resolved_base
from softprompt.tuning.training_log import TrainingLog


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
    return load_resolved_base(resolved, visible_device())


def headline(report: GateReport) -> dict[str, dict[str, float]]:
    """System -> metric -> estimate."""
    systems: dict[str, dict[str, float]] = {}
    for found in report.measured:
        systems.setdefault(found.system, {})[found.metric] = found.estimate
    return systems
