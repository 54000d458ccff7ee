"""Rows that the soft prompt answers better, and worse, than another system."""

from typing import NamedTuple

from softprompt.evaluation.gate_report import GateReport, system_title
from softprompt.evaluation.metrics import row_scores
from softprompt.evaluation.observations import Answers
from softprompt.recipe.gates import Metric

LONGEST_TEXT = 300


class Exchange(NamedTuple):
    """Rows won and lost against a system, each with `id`, `target`, `mine`, `theirs`."""

    title: str
    won: list[dict[str, str]]
    lost: list[dict[str, str]]


def exchange(report: GateReport, system: str) -> Exchange:
    """Compare row by row: hits of a classification, ROUGE-L of a generation."""
    metric: Metric = "rouge_l" if report.task == "generation" else "accuracy"
    targets = [row.target for row in report.rows]
    mine, theirs = (row_scores(metric, targets, _answers(report, each)) for each in ("soft_prompt", system))
    shown = [
        {"id": row.id, "target": cut(row.target), "mine": cut(row.outputs["soft_prompt"]), "theirs": cut(row.outputs[system])}
        for row in report.rows
    ]
    won = [row for row, a, b in zip(shown, mine, theirs, strict=True) if a > b]
    lost = [row for row, a, b in zip(shown, mine, theirs, strict=True) if a < b]
    return Exchange(system_title(system), won, lost)


def cut(text: str) -> str:
    """As much of a text as a table bears."""
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " …"


def _answers(report: GateReport, system: str) -> Answers:
    return Answers(tuple(row.outputs[system] for row in report.rows))
