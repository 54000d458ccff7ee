"""The evaluation as one page: the verdict first, then the evidence, then how to make it again.

figures.py   what is drawn
exchange.py  rows won and lost against a baseline
markdown.py  the same in a few lines, for places that show Markdown
"""

import json
from pathlib import Path

from softprompt.artifact import PromptFile
from softprompt.evaluation.gate_report import METRIC_TITLES, GateReport, system_title
from softprompt.evaluation.report.exchange import exchange
from softprompt.evaluation.report.figures import comparison_plot, confidence_plots, most_confused, training_plots
from softprompt.pages.page import write_page
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.training_log import TrainingLog

MOST_COMPARED = 2
"""Metrics that are drawn; the table beside them has all."""
WORN = 10
"""Prompts judged by the same rows from which the page warns."""


def write_evaluation_report(
    path: Path, resolved: ResolvedRecipe, report: GateReport, log: TrainingLog, prompt: PromptFile
) -> None:
    """Write the page.

    Args:
        path: File to write.
        resolved: The recipe.
        report: What was measured.
        log: How it was trained.
        prompt: What was trained.
    """
    metrics = report.metrics
    write_page(
        path,
        "evaluation",
        name=resolved.recipe.name,
        kind=prompt.manifest.kind,
        num_tokens=prompt.manifest.num_tokens,
        base_uri=report.base_uri,
        report=report,
        log=log,
        first_metric=METRIC_TITLES[metrics[0]],
        facts=_facts(report, log, prompt),
        comparisons=[(_sentence(METRIC_TITLES[metric]), comparison_plot(report, metric)) for metric in metrics[:MOST_COMPARED]],
        reason=_sentence(report.reason.split(": ", 1)[1]),
        wear=_wear(report),
        systems=[system_title(system) for system in report.systems],
        table=[(METRIC_TITLES[metric], [report.value(system, metric) for system in report.systems]) for metric in metrics],
        explored=[(system_title(found.baseline), METRIC_TITLES[found.metric], found) for found in report.comparisons],
        notes=[(system_title(system), note) for system, note in report.notes.items()],
        instructions=resolved.recipe.evaluation.templates(),
        confused=most_confused(report),
        confidence=confidence_plots(report),
        training=training_plots(log),
        exchanges=[exchange(report, system) for system in report.systems[1:]],
        provenance=_provenance(resolved, report, prompt),
        recipe_json=json.dumps(resolved.recipe.model_dump(mode="json"), indent=2, ensure_ascii=False),
    )


def _facts(report: GateReport, log: TrainingLog, prompt: PromptFile) -> list[tuple[str, str]]:
    metric = report.metrics[0]
    title = METRIC_TITLES[metric]
    shown = [(system, report.value(system, metric)) for system in ("soft_prompt", "bare_base", "champion", "classical")]
    unchanged = log.base_digest_before == log.base_digest_after
    return [
        *((f"{found.estimate:.3f}", f"{title}, {system_title(system)}") for system, found in shown if found),
        (f"{len(prompt.tensor):,} B", "prompt file"),
        (f"{log.trainable_parameters:,}", f"of {log.total_parameters:,} numbers trained"),
        (f"{log.seconds:.0f} s", f"of training, {log.num_workers} worker{'s' if log.num_workers > 1 else ''}"),
        ("unchanged" if unchanged else "CHANGED", "the frozen base, bit for bit"),
    ]


def _wear(report: GateReport) -> str:
    """How often these rows have judged, and what that means."""
    if report.wear is None or not report.wear.judged_before:
        return ""
    count = report.wear.judged_before
    said = f"These test rows have judged {count} prompt{'s' if count > 1 else ''} of this name before."
    return (
        f"{said} A test set wears out: the more choices it has made, the better a prompt looks on it. Bring new rows."
        * (count >= WORN)
        or said
    )


def _sentence(text: str) -> str:
    """With a capital letter in front, the others as they are."""
    return text[:1].upper() + text[1:]


def _provenance(resolved: ResolvedRecipe, report: GateReport, prompt: PromptFile) -> list[tuple[str, str]]:
    return [
        ("recipe", resolved.source),
        ("command", f"softprompt run {resolved.source}"),
        ("prompt", f"sha256:{prompt.digest}"),
        ("dataset", f"{resolved.dataset.uri}, content sha256:{report.dataset}"),
        ("test rows", f"sha256:{report.test_rows}"),
        ("base model", f"{report.base_uri}, fingerprint sha256:{report.base_fingerprint}"),
        *([("champion", f"sha256:{report.champion}")] if report.champion else []),
        ("numerics", report.numerics),
        ("softprompt", f"{resolved.tool_version}, code sha256:{resolved.code_digest}"),
        ("measured", report.evaluated),
    ]
