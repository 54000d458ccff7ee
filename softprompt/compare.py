"""From what people call two versions of a prompt to their evaluations side by side.

A version is named by a `gate_report.json`, by `NAME@VERSION` of the MLflow registry, or, as in `softprompt inspect`, by the name
of its recipe (then the newest run on this machine is meant), a digest, or the directory of its prompt file.
"""

import re
from pathlib import Path

from rich.console import Console
from rich.table import Table

from softprompt.errors import InvalidRequest
from softprompt.evaluation.gate_report import METRIC_TITLES, GateReport
from softprompt.evaluation.report.compare import conclusion
from softprompt.evaluation.side_by_side import SideBySide, put_side_by_side
from softprompt.inspect_prompt import find_run
from softprompt.registry import report_of_version
from softprompt.settings import Settings


def compare_named(settings: Settings, before: str, after: str) -> SideBySide:
    """Compare two versions.

    Args:
        settings: Where runs and registry are.
        before: The first.
        after: The second.

    Raises:
        InvalidRequest: There is no such version, or the two cannot be compared.
        TrackingUnavailable: The registry does not answer.
    """
    names = (_title(before), _title(after))
    return put_side_by_side(names, find_report(settings, before), find_report(settings, after))


def find_report(settings: Settings, given: str) -> GateReport:
    """The evaluation of a version. Raises as `compare_named`."""
    path = Path(given).expanduser()
    if path.is_file():
        return GateReport.from_bytes(path.read_bytes(), source=str(path))
    if registered := re.fullmatch(r"([a-z0-9-]+)@(\d+)", given):
        text = report_of_version(settings.tracking_uri, registered[1], registered[2])
        return GateReport.from_bytes(text, source=f"MLflow, {given}")
    report = find_run(given, settings.runs).output("evaluate_prompt", "gate_report")
    if report is None:
        raise InvalidRequest("That run has no evaluation.", where=given, expected="gate_report")
    return GateReport.from_bytes(report.read_bytes(), source=str(report))


def print_comparison(found: SideBySide, console: Console) -> None:
    """What changed, in a few lines."""
    headline, sentence, colour = conclusion(found)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", found.before.name, found.after.name):
        table.add_column(title, justify="right" if title else "left")
    for old, new in found.measured:
        table.add_row(METRIC_TITLES[old.metric], f"{old.estimate:.3f}", f"{new.estimate:.3f}")
    for gate in found.gates:
        table.add_row(gate.rule, gate.before or "not asked", gate.after or "not asked")
    console.print(table)
    console.print()
    style = {"passed": "green", "rejected": "red", "undecided": "yellow"}[colour]
    console.print(f"{headline}. {sentence}", style=style, markup=False, highlight=False)
    console.print(f"{len(found.won)} rows won, {len(found.lost)} lost.", markup=False, highlight=False)


def _title(given: str) -> str:
    return given if len(given) <= 40 else f"…{given[-38:]}"
