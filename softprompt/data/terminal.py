"""A dataset report in a terminal: the verdict, the numbers to know, what to mend with the first rows of each."""

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from softprompt.data.dataset import FindingRecord
from softprompt.data.mend import Mended
from softprompt.data.report import DatasetReport
from softprompt.data.rows import Severity

COLOURS: dict[Severity, str] = {"refuse": "red", "drop": "blue", "warn": "yellow"}
NUM_EXAMPLES: dict[Severity, int] = {"refuse": 5, "drop": 2, "warn": 2}


def print_report(report: DatasetReport, console: Console) -> None:
    """Print what validation found.

    Args:
        report: What was found.
        console: Where to.
    """
    style = "bold red" if report.verdict == "refused" else "bold green"
    console.print(Text.assemble((report.verdict.capitalize(), style), f"  {report.reason}"), soft_wrap=True)
    console.print()
    for name, fact in _facts(report):
        console.print(f"[dim]{name:<10}[/]{escape(fact)}", highlight=False, soft_wrap=True)
    for finding in report.findings:
        _print_finding(finding, console)


def print_mended(mended: Mended, console: Console) -> None:
    """Print what is left of a dataset, and where it was written."""
    dropped = ", ".join(f"{count:,} {check}" for check, count in mended.num_dropped.most_common())
    *rows, log = mended.files
    console.print()
    console.print(
        f"[dim]{'cleaned':<10}[/]{mended.num_kept:,} rows in {escape(' and '.join(map(str, rows)))}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"[dim]{'left out':<10}[/]{f'{dropped}; why is in {escape(str(log))}' if dropped else 'no row'}",
        highlight=False,
        soft_wrap=True,
    )
    for finding in mended.remaining:
        line = Text.assemble(("still refused", "red"), f"  {finding.check}: {finding.message}")
        console.print(line, soft_wrap=True)


def _facts(report: DatasetReport) -> list[tuple[str, str]]:
    parts = ", ".join(f"{count:,} {part}" for part, count in report.num_rows.items())
    facts = [("source", ", ".join(report.sources)), ("rows", parts)]
    if report.num_dropped:
        facts.append(("left out", ", ".join(f"{count:,} {check}" for check, count in report.num_dropped.items())))
    if report.num_rows_by_label:
        facts.append(("labels", f"{len(report.num_rows_by_label):,}"))
    if report.lengths:
        facts.append(("longest", f"{report.lengths.quantiles['1']:,} tokens; the context leaves {report.lengths.room:,}"))
    if report.baseline:
        baseline = report.baseline
        scores = f"{baseline.validation_accuracy:.3f} on validation, {baseline.test_accuracy:.3f} on test rows"
        facts.append(("to beat", f"TF-IDF and logistic regression: {scores}"))
    return facts


def _print_finding(found: FindingRecord, console: Console) -> None:
    console.print()
    name = found.check.replace("_", " ")
    console.print(
        Text.assemble((found.severity, COLOURS[found.severity]), "  ", (name, "bold"), f"  {found.message}"), soft_wrap=True
    )
    details = found.details or ("",) * len(found.places)
    most = NUM_EXAMPLES[found.severity]
    for place, detail in list(zip(found.places, details, strict=True))[:most]:
        console.print(Text(f"        {place}  {detail}".rstrip(), "dim"), soft_wrap=True)
    if found.num_rows > most and found.places:
        console.print(Text(f"        ... and {found.num_rows - most:,} more", "dim"))
