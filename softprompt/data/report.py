"""The dataset as one page: whether it was taken, why not, and which rows to mend."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softprompt.data.rows import PARTS, Finding, Row
from softprompt.pages.page import write_page
from softprompt.pages.plots import counts_plot, histogram_plot
from softprompt.resolve import ResolvedRecipe

NUM_EXAMPLES = 5
MOST_LABELS_DRAWN = 40


def write_dataset_report(path: Path, resolved: ResolvedRecipe, rows: Sequence[Row], findings: Sequence[Finding]) -> None:
    """Write the page; also for a dataset that will be refused.

    Args:
        path: File to write.
        resolved: The recipe.
        rows: The usable rows with their parts.
        findings: What is wrong, if anything.
    """
    refusals = sum(found.severity == "refuse" for found in findings)
    labels = sorted({row.target for row in rows}) if resolved.recipe.task.type == "classification" else []
    counts = Counter(row.part for row in rows)
    seen = {part: len({row.target for row in rows if row.part == part}) for part in PARTS}
    test = [resolved.test_dataset.uri] if resolved.test_dataset else []
    write_page(
        path,
        "dataset",
        name=resolved.recipe.name,
        sources=[resolved.dataset.uri, *test],
        verdict="refused" if refusals else "accepted",
        reason=_reason(refusals, len(findings) - refusals),
        facts=_facts(rows, labels, findings),
        findings=[_shown(found) for found in sorted(findings, key=lambda found: found.severity)],
        labels=labels,
        parts=[(part, counts[part], counts[part] / len(rows), seen[part]) for part in PARTS] if rows else [],
        plots=_plots(rows, labels),
    )


def _reason(refusals: int, warnings: int) -> str:
    if refusals:
        return f"{refusals} finding{'s' if refusals > 1 else ''} must be mended before a prompt is trained on this."
    return (
        f"{warnings} warning{'s' if warnings != 1 else ''}, nothing that would ruin a prompt."
        if warnings
        else "Nothing was found wrong."
    )


def _facts(rows: Sequence[Row], labels: Sequence[str], findings: Sequence[Finding]) -> list[tuple[str, str]]:
    unusable = sum(len(found.places) for found in findings if found.check == "readable")
    facts = [(f"{len(rows):,}", "usable rows"), (f"{unusable:,}", "unusable rows")]
    return [*facts, (f"{len(labels):,}", "labels")] if labels else facts


def _shown(found: Finding) -> dict[str, Any]:
    details = found.details or ("",) * len(found.places)
    examples = list(zip(found.places, details, strict=True))[:NUM_EXAMPLES]
    content = {"check": found.check, "severity": found.severity, "message": found.message}
    return content | {"places": found.places, "examples": examples}


def _plots(rows: Sequence[Row], labels: Sequence[str]) -> list[tuple[str, object]]:
    if not rows:
        return []
    plots: list[tuple[str, object]] = []
    if labels:
        counts = Counter(row.target for row in rows)
        drawn = dict(counts.most_common(MOST_LABELS_DRAWN))
        more = f", the {MOST_LABELS_DRAWN} most frequent of {len(labels)}" if len(labels) > MOST_LABELS_DRAWN else ""
        plots.append((f"Labels{more}", counts_plot(drawn, "rows")))
    words = [sum(len(text.split()) for text in row.inputs.values()) for row in rows]
    return [*plots, ("Length of the input", histogram_plot(words, "words", None, ""))]
