"""A finished run in one document, for `--json`, and as the few lines that a person wants at the end."""

from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from softprompt.artifact import PromptFile
from softprompt.documents import Document
from softprompt.evaluation.gate_report import METRIC_TITLES, GateReport, system_title
from softprompt.recipe.gates import Metric
from softprompt.registry import Registration
from softprompt.release.publish_prompt import PublishOutcome
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.training_log import TrainingLog

MOST_METRICS = 2
"""Shown in the terminal; the report has all."""
EXIT_CODES = {"passed": 0, "rejected": 4, "undecided": 6}


class RunSummary(Document):
    """What a run did."""

    schema_version: Literal[1] = 1
    name: str
    verdict: Literal["passed", "rejected", "undecided"]
    reason: str
    seconds: dict[str, float]
    """Step -> seconds, process start included."""
    total_seconds: float
    metrics: dict[str, dict[Metric, float]]
    """System (`soft_prompt`, `bare_base`, ...) -> metric -> estimate on the test rows."""
    num_test_rows: int
    prompt: str
    """The prompt's digest."""
    prompt_kind: str
    prompt_num_tokens: int
    prompt_bytes: int
    """Size of the tensor file."""
    trainable_parameters: int
    total_parameters: int
    """Of the frozen base."""
    base_fingerprint: str
    base_unchanged: bool
    """Whether the digest of the base's parameters is the same before and after training."""
    mlflow_run: str
    version: str
    """In the registry; empty for a rejected prompt."""
    channel: str
    publication: str
    """`published`, `unchanged`, `proposed`, `refused`; empty where publishing was not tried."""
    publication_reasons: tuple[str, ...]
    generation: int
    """Of the channel, that serves this prompt; 0: none does."""
    report: str
    """Path of the evaluation report."""
    training_report: str
    """Path of the training report."""
    folder: str
    """Path of the run's outputs."""

    @property
    def exit_code(self) -> int:
        """0 done, 4 the gates rejected, 6 they could not decide."""
        return EXIT_CODES[self.verdict]


def summarise(
    *,
    resolved: ResolvedRecipe,
    prompt: PromptFile,
    log: TrainingLog,
    report: GateReport,
    registration: Registration,
    publication: PublishOutcome | None,
    seconds: dict[str, float],
    total_seconds: float,
    report_page: Path,
    training_page: Path,
    folder: Path,
) -> RunSummary:
    """Put the outputs of the steps together."""
    metrics: dict[str, dict[Metric, float]] = {}
    for found in report.measured:
        metrics.setdefault(found.system, {})[found.metric] = found.estimate
    return RunSummary(
        name=resolved.recipe.name,
        verdict=report.verdict,
        reason=report.reason,
        seconds=seconds,
        total_seconds=round(total_seconds, 3),
        metrics=metrics,
        num_test_rows=report.num_test_rows,
        prompt=prompt.digest,
        prompt_kind=prompt.manifest.kind,
        prompt_num_tokens=prompt.manifest.num_tokens,
        prompt_bytes=len(prompt.tensor),
        trainable_parameters=log.trainable_parameters,
        total_parameters=log.total_parameters,
        base_fingerprint=report.base_fingerprint,
        base_unchanged=log.base_digest_before == log.base_digest_after,
        mlflow_run=registration.run_id,
        version=registration.version,
        channel=resolved.recipe.channel,
        publication=publication.outcome if publication else "",
        publication_reasons=publication.reasons if publication else (),
        generation=publication.generation if publication else 0,
        report=str(report_page),
        training_report=str(training_page),
        folder=str(folder),
    )


def print_summary(summary: RunSummary, console: Console) -> None:
    """The result in a few lines: scores side by side, verdict, where it is served, where to look."""
    metrics = list(summary.metrics["soft_prompt"])[:MOST_METRICS]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(f"{summary.num_test_rows} test rows")
    for metric in metrics:
        table.add_column(METRIC_TITLES[metric], justify="right")
    for system, found in summary.metrics.items():
        shown = (f"{found[metric]:.3f}" if metric in found else "" for metric in metrics)
        table.add_row(system_title(system), *shown, style="bold" if system == "soft_prompt" else None)
    colour = {"passed": "green", "rejected": "red", "undecided": "yellow"}[summary.verdict]
    console.print()
    console.print(table)
    console.print()
    console.print(summary.reason, style=colour, markup=False, highlight=False)
    facts = {
        "prompt": f"{summary.prompt_kind}, {summary.prompt_num_tokens} tokens, {summary.prompt_bytes:,} bytes, "
        f"{summary.trainable_parameters:,} of {summary.total_parameters:,} numbers trained",
        "base model": "unchanged" if summary.base_unchanged else "CHANGED",
        "registry": f"{summary.name} version {summary.version}" if summary.version else "a run without a version",
        "channel": _channel_line(summary),
        "report": summary.report,
        "training": summary.training_report,
    }
    for name, fact in facts.items():
        console.print(f"[dim]{name:<11}[/]{escape(fact)}", highlight=False, soft_wrap=True)


def _channel_line(summary: RunSummary) -> str:
    if summary.generation:
        return f"{summary.channel}, generation {summary.generation} ({summary.publication})"
    why = "; ".join(summary.publication_reasons) or "the verdict is not a pass"
    return f"{summary.channel}: not published ({summary.publication or 'not tried'}: {why})"
