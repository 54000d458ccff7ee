"""The evaluation as one page: the verdict first, then the evidence, then how to make it again."""

import json
from collections.abc import Iterable
from pathlib import Path

from softprompt.artifact import PromptFile
from softprompt.evaluation.gate_report import METRIC_TITLES, GateReport, system_title
from softprompt.evaluation.metrics import row_scores
from softprompt.evaluation.observations import Answers
from softprompt.gate_specs import Metric
from softprompt.pages.page import write_page
from softprompt.pages.plots import Estimate, curves_plot, estimates_plot
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.training_log import Measurement, TrainingLog

MOST_CONFUSED = 10
LONGEST_TEXT = 300


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
        metric_titles=[METRIC_TITLES[metric] for metric in metrics],
        facts=_facts(report, log, prompt),
        comparisons=[(_sentence(METRIC_TITLES[metric]), _comparison(report, metric)) for metric in metrics],
        reason=_sentence(report.reason.split(": ", 1)[1]),
        systems=[(system_title(system), [report.value(system, metric) for metric in metrics]) for system in _systems(report)],
        classical=_classical_sentence(report),
        instruction=resolved.recipe.evaluation.instruction,
        confused=_confused(report),
        training=_training_plots(log),
        exchanges=[_exchange(report, system) for system in _systems(report)[1:]],
        provenance=_provenance(resolved, report, prompt),
        recipe_json=json.dumps(resolved.recipe.model_dump(mode="json"), indent=2, ensure_ascii=False),
    )


def _facts(report: GateReport, log: TrainingLog, prompt: PromptFile) -> list[tuple[str, str]]:
    metric = report.metrics[0]
    mine, bare = report.value("soft_prompt", metric), report.value("bare_base", metric)
    assert mine is not None
    assert bare is not None
    title = METRIC_TITLES[metric]
    classical = report.value("classical", metric)
    unchanged = log.base_digest_before == log.base_digest_after
    return [
        (f"{mine.estimate:.3f}", f"{title} of the soft prompt"),
        (f"{bare.estimate:.3f}", f"{title} of the bare base"),
        *([(f"{classical.estimate:.3f}", f"{title} of a classical model")] if classical else []),
        (f"{len(prompt.tensor):,} B", "prompt file"),
        (f"{log.trainable_parameters:,}", f"of {log.total_parameters:,} numbers trained"),
        (f"{log.seconds:.0f} s", f"of training, {log.num_workers} worker{'s' if log.num_workers > 1 else ''}"),
        ("unchanged" if unchanged else "CHANGED", "the frozen base, bit for bit"),
    ]


def _classical_sentence(report: GateReport) -> str:
    """Whether the soft prompt is better than the classical model, in rows that one answers rightly and the other does not."""
    if not report.value("classical", report.metrics[0]):
        return ""
    _, won, lost = _exchange(report, "classical")
    ahead = "ahead of" if len(won) > len(lost) else "behind" if len(won) < len(lost) else "level with"
    return (
        f"The soft prompt is {ahead} them on these rows: it alone is right on {len(won)}, they alone on {len(lost)}. "
        "They need no language model, but know no word that training rows lack; a gate asks for more with better_than: classical."
    )


def _sentence(text: str) -> str:
    """With a capital letter in front, the others as they are."""
    return text[:1].upper() + text[1:]


def _comparison(report: GateReport, metric: Metric) -> object:
    found = [(system_title(each.system), each) for each in report.measured if each.metric == metric]
    estimates: list[Estimate] = [(title, each.estimate, each.low, each.high) for title, each in found]
    floors = {
        f"gate {gate.threshold:g}": gate.threshold
        for gate in report.gates
        if gate.metric == metric and " above " not in gate.rule
    }
    return estimates_plot(estimates, METRIC_TITLES[metric], floors)


def _systems(report: GateReport) -> list[str]:
    """Who answered, the soft prompt first."""
    return list(dict.fromkeys(found.system for found in report.measured))


def _confused(report: GateReport) -> list[tuple[str, str, int]]:
    pairs = [
        (report.labels[true], report.labels[said], count)
        for true, row in enumerate(report.confusion)
        for said, count in enumerate(row)
        if true != said and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:MOST_CONFUSED]


def _training_plots(log: TrainingLog) -> list[object]:
    looks = [look for look in log.measurements if look.candidate == log.winner]
    losses = {
        "training": [(look.step, look.training_loss) for look in looks],
        "validation": [(look.step, look.validation_loss) for look in looks],
    }
    unit = "nats a row" if log.loss == "answers" else "nats a token"
    plots: list[object] = [curves_plot(losses, "step", f"loss, {unit}", log.best_step)]
    accuracies = list(_accuracies(looks))
    if accuracies:
        plots.append(curves_plot({"validation": accuracies}, "step", "validation accuracy", log.best_step))
    return plots


def _accuracies(looks: Iterable[Measurement]) -> Iterable[tuple[float, float]]:
    return ((look.step, look.validation_accuracy) for look in looks if look.validation_accuracy is not None)


def _exchange(report: GateReport, system: str) -> tuple[str, list[dict[str, str]], list[dict[str, str]]]:
    """Rows that the soft prompt answers better, and worse, than another system."""
    metric: Metric = "rouge_l" if report.task == "generation" else "accuracy"
    targets = [row.target for row in report.rows]
    mine = row_scores(metric, targets, _outputs(report, "soft_prompt"))
    theirs = row_scores(metric, targets, _outputs(report, system))
    shown = [
        {"id": row.id, "target": _cut(row.target), "mine": _cut(row.outputs["soft_prompt"]), "theirs": _cut(row.outputs[system])}
        for row in report.rows
    ]
    won = [row for row, a, b in zip(shown, mine, theirs, strict=True) if a > b]
    lost = [row for row, a, b in zip(shown, mine, theirs, strict=True) if a < b]
    return system_title(system), won, lost


def _outputs(report: GateReport, system: str) -> Answers:
    return Answers(tuple(row.outputs[system] for row in report.rows))


def _provenance(resolved: ResolvedRecipe, report: GateReport, prompt: PromptFile) -> list[tuple[str, str]]:
    return [
        ("recipe", resolved.source),
        ("command", f"softprompt run {resolved.source}"),
        ("prompt", f"sha256:{prompt.digest}"),
        ("dataset", f"{resolved.dataset.uri}, content sha256:{report.dataset}"),
        ("base model", f"{report.base_uri}, fingerprint sha256:{report.base_fingerprint}"),
        ("numerics", report.numerics),
        ("softprompt", f"{resolved.tool_version}, code sha256:{resolved.code_digest}"),
        ("measured", report.evaluated),
    ]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " …"
