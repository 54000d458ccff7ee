"""The dataset as one page and as JSON: whether it was taken, why not, which rows to mend, and what the rows are like."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from softprompt.data.checks.learned import Learned
from softprompt.data.checks.lengths import Lengths
from softprompt.data.dataset import BaselineRecord, FindingRecord
from softprompt.data.examined import Examined, Rows
from softprompt.data.rows import MOST_PLACES, PARTS, SEVERITIES, Finding, Part, Severity
from softprompt.data.split import drawn
from softprompt.documents import Document
from softprompt.fetch.web import without_secrets
from softprompt.pages.page import write_page
from softprompt.pages.plots import counts_plot, histogram_plot
from softprompt.resolve import ResolvedRecipe

NUM_EXAMPLES = 5
MOST_FIRST = 3
"""Warnings that the top of the page names; all refusals stand there."""
URGENT = ("personal_data", "poison", "instructions", "wrong_labels", "conflicts", "torn_groups", "label_names", "mojibake")
"""Of warnings: what would hurt people first, then what would teach something wrong; the rest can wait."""
TITLES: dict[Severity, str] = {
    "refuse": "Must be mended",
    "drop": "Rows were left out",
    "warn": "To be looked at",
}
Numbered = tuple[int, FindingRecord]
"""A finding, and its place among all."""
Plot = tuple[str, object, str]
"""(title, picture, what to see in it)"""
MOST_LABELS_DRAWN = 40


class LengthReport(Document):
    """How long rows are, in tokens of the base model, input and answer together."""

    context_tokens: int
    room: int
    """What the context leaves beside the prompt."""
    quantiles: dict[str, int]
    """`0.5` -> tokens that half of the rows do not exceed, and so on."""


class MovedRow(Document):
    """A row that went to another part than its own draw says."""

    place: str
    part: Part
    instead_of: Part
    """What its own draw says."""
    leader: str
    """The row of its cluster whose draw decided."""


class DatasetReport(Document):
    """What validation found, for machines; the page says the same to people."""

    max_bytes: ClassVar[int] = 64 * 1024 * 1024

    schema_version: Literal[1] = 1
    name: str
    sources: tuple[str, ...]
    verdict: Literal["accepted", "refused"]
    reason: str
    num_rows: dict[Part, int]
    num_unusable: int
    num_dropped: dict[str, int]
    """Check -> rows that it left out."""
    findings: tuple[FindingRecord, ...]
    """Worst first."""
    num_rows_by_label: dict[str, dict[Part, int]]
    num_moved: int
    """Rows that stay with their cluster although their own draw says another part; no fault."""
    moved: tuple[MovedRow, ...]
    """The first hundred of them."""
    lengths: LengthReport | None
    """None where the dataset was refused before rows were counted in tokens."""
    languages: dict[str, int]
    """Language -> rows of the sample."""
    samples: dict[str, int]
    """Check -> rows that it looked at, where it did not look at all."""
    baseline: BaselineRecord | None

    @property
    def headline(self) -> dict[str, float]:
        """The numbers to follow from run to run, for a registry or the Kubeflow UI."""
        counts = Counter(found.severity for found in self.findings)
        found: dict[str, float] = {f"{part} rows": count for part, count in self.num_rows.items()}
        found |= {"rows dropped": sum(self.num_dropped.values()), "warnings": counts["warn"], "refusals": counts["refuse"]}
        if self.num_rows_by_label:
            found["labels"] = len(self.num_rows_by_label)
        if self.lengths:
            found["longest row in tokens"] = self.lengths.quantiles["1"]
        if self.baseline:
            found["baseline validation accuracy"] = self.baseline.validation_accuracy
            found["baseline test accuracy"] = self.baseline.test_accuracy
        return found


def report_beside(page: Path) -> Path:
    """Where the JSON of a page stands."""
    return page.with_name(f"{page.name}.json")


def dataset_report(resolved: ResolvedRecipe, data: Examined, learned: Learned) -> DatasetReport:
    """Gather what was found."""
    findings = sorted(data.findings, key=_urgency)
    moved, leaders = data.moved_rows()
    return DatasetReport(
        name=resolved.recipe.name,
        sources=tuple(without_secrets(file.uri) for file in (resolved.dataset, resolved.test_dataset) if file),
        verdict="refused" if data.refused else "accepted",
        reason=_reason(data),
        num_rows=data.num_rows_by_part,
        num_unusable=sum(found.num_rows for found in findings if found.check == "unreadable"),
        num_dropped=data.num_dropped,
        findings=tuple(map(FindingRecord.of, findings)),
        num_rows_by_label=_by_label(data),
        num_moved=len(moved),
        moved=_moved(data, moved[:MOST_PLACES], leaders[:MOST_PLACES]),
        lengths=_lengths(learned.lengths) if learned.lengths and len(learned.lengths.tokens) else None,
        languages=learned.languages,
        samples=learned.samples,
        baseline=learned.baseline,
    )


def write_dataset_page(path: Path, report: DatasetReport, data: Examined, learned: Learned) -> None:
    """Write the page; also for a dataset that will be refused.

    Args:
        path: File to write.
        report: What was found.
        data: The examined rows.
        learned: What was learned from all of them.
    """
    total = sum(report.num_rows.values())
    seen = {part: sum(1 for counts in report.num_rows_by_label.values() if counts[part]) for part in PARTS}
    write_page(
        path,
        "dataset",
        report=report,
        num_examples=NUM_EXAMPLES,
        first=_first(report),
        groups=[(f"{TITLES[severity]} ({len(found)})", found) for severity in SEVERITIES if (found := _of(report, severity))],
        facts=_facts(report),
        parts=[(part, count, count / total, seen[part]) for part, count in report.num_rows.items()] if total else [],
        plots=_plots(report, data, learned),
    )


def _of(report: DatasetReport, severity: Severity) -> list[Numbered]:
    return [(place, found) for place, found in enumerate(report.findings) if found.severity == severity]


def _first(report: DatasetReport) -> list[Numbered]:
    """What to do first: mend what refuses, else look at the most urgent warnings."""
    urgent = [pair for pair in _of(report, "warn") if pair[1].check in URGENT]
    return _of(report, "refuse") or urgent[:MOST_FIRST]


def _urgency(found: Finding) -> tuple[int, int]:
    by_check = URGENT.index(found.check) if found.check in URGENT else len(URGENT)
    return SEVERITIES.index(found.severity), by_check


def _reason(data: Examined) -> str:
    counts = Counter(found.severity for found in data.findings)
    if refusals := counts["refuse"]:
        return f"{refusals} finding{'s' if refusals > 1 else ''} must be mended before a prompt is trained on this."
    dropped = sum(data.num_dropped.values())
    said = [f"{count:,} warning{'s' if count > 1 else ''}" for count in [counts["warn"]] if count]
    said += [f"{count:,} row{'s' if count > 1 else ''} left out" for count in [dropped] if count]
    return f"{' and '.join(said)}; a prompt can be trained on this." if said else "Nothing was found wrong."


def _by_label(data: Examined) -> dict[str, dict[Part, int]]:
    if data.recipe.task.type != "classification":
        return {}
    counts = [data.counts_by_label(part).tolist() for part in range(len(PARTS))]
    named = zip(data.label_names, *counts, strict=True)
    return {name: dict(zip(PARTS, own, strict=True)) for name, *own in named if any(own)}


def _moved(data: Examined, rows: Rows, leaders: Rows) -> tuple[MovedRow, ...]:
    own = drawn(data.measures.place[rows], data.recipe.dataset.split).tolist()
    found = zip(data.take(rows), own, data.take(leaders), strict=True)
    return tuple(
        MovedRow(place=row.place, part=row.part, instead_of=PARTS[part], leader=leader.place) for row, part, leader in found
    )


def _lengths(lengths: Lengths) -> LengthReport:
    shares = (0.0, 0.5, 0.9, 0.99, 1.0)
    values = np.quantile(lengths.tokens, shares, method="higher").tolist()
    quantiles = {f"{share:g}": int(value) for share, value in zip(shares, values, strict=True)}
    return LengthReport(context_tokens=lengths.context_tokens, room=lengths.room, quantiles=quantiles)


def _facts(report: DatasetReport) -> list[tuple[str, str]]:
    facts = [(f"{sum(report.num_rows.values()):,}", "rows kept")]
    if report.num_unusable:
        facts.append((f"{report.num_unusable:,}", "rows that cannot be used"))
    if report.num_dropped:
        facts.append((f"{sum(report.num_dropped.values()):,}", "rows left out"))
    if report.num_rows_by_label:
        facts.append((f"{len(report.num_rows_by_label):,}", "labels"))
    if report.lengths:
        facts.append((f"{report.lengths.quantiles['1']:,} of {report.lengths.room:,}", "tokens in the longest row"))
    if report.baseline:
        facts.append((f"{report.baseline.test_accuracy:.3f}", "test accuracy of a classical model"))
    return facts


def _plots(report: DatasetReport, data: Examined, learned: Learned) -> list[Plot]:
    plots: list[Plot] = []
    if report.num_rows_by_label:
        totals = Counter({label: sum(counts.values()) for label, counts in report.num_rows_by_label.items()})
        more = f", the {MOST_LABELS_DRAWN} most frequent of {len(totals)}" if len(totals) > MOST_LABELS_DRAWN else ""
        plots.append((f"Labels{more}", counts_plot(dict(totals.most_common(MOST_LABELS_DRAWN)), "rows"), ""))
    rows = data.rows_of()
    if report.lengths and learned.lengths:
        plots.append(_tokens_plot(report.lengths, learned.lengths.tokens.tolist()))
    elif len(rows):
        picture = histogram_plot(data.measures.characters[rows].tolist(), "characters", None, "")
        plots.append(("Length of the input", picture, ""))
    if len(report.languages) > 1:
        plots.append(("Languages of a sample", counts_plot(report.languages, "rows"), ""))
    return plots


def _tokens_plot(lengths: LengthReport, tokens: Sequence[int]) -> Plot:
    """The line of the context, unless it is so far away that the rows would be one bar."""
    longest, room = lengths.quantiles["1"], lengths.room
    limit = room if longest * 5 > room else None
    said = f"Half of the rows take at most {lengths.quantiles['0.5']:,} tokens, 99 % at most {lengths.quantiles['0.99']:,}. "
    said += f"The context holds {lengths.context_tokens:,}; {lengths.context_tokens - room:,} go to the prompt, {room:,} are left"
    said += ": the dashed line." if limit else ", far to the right of this picture."
    return "Length of input and answer", histogram_plot(tokens, "tokens", limit, "end of the context"), said
