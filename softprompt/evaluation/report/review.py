"""The review page of a registered version: what a person needs to decide, as the Markdown of its description in MLflow.

Input texts are somebody's: personal data is masked, they are cut, and nothing in them is taken for Markdown.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from softprompt.data.rows import Row
from softprompt.data.text.personal_data import mask
from softprompt.evaluation.gate_report import METRIC_TITLES, Comparison, GateReport, system_title
from softprompt.evaluation.metrics import row_scores
from softprompt.evaluation.observations import Answers
from softprompt.evaluation.report.markdown import gates_table, systems_table
from softprompt.evaluation.side_by_side import OF_EACH_ROW

MOST_CHARACTERS = 5000
"""Of a version's description: MLflow's column in PostgreSQL and MySQL. SQLite would take more."""
_MARKS = re.compile(r"([\\`*_\[\]#|~])|(://)")
_COLUMN_END = re.compile(r"(?<=[^-|]) \|(?= .)")
"""Between two columns, but not in the line of dashes, nor a bar within a text, which has a backslash before it."""
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass(frozen=True)
class _Length:
    """How much of everything a page has."""

    examples: int
    characters: int
    """Of each input text."""
    all_gates: bool = True
    systems: bool = True


_LENGTHS = (_Length(3, 110), _Length(2, 80), _Length(1, 60), _Length(1, 60, all_gates=False), _Length(0, 0, False, False))
"""Longest first; the first that fits is taken."""
_WHOLE = _Length(10, 400)


@dataclass(frozen=True, kw_only=True)
class ReviewPage:
    """Everything that a review page says."""

    report: GateReport
    name: str
    """Of the registered model."""
    version: str
    channel: str
    """Where the run meant the prompt to go."""
    prompt: str
    """Its digest."""
    description: str
    """Kind, length and size of the prompt, in words."""
    inputs: Sequence[str] = ()
    """Input texts, parallel to the report's rows; none: the page has no examples."""

    def fitting(self, most: int = MOST_CHARACTERS) -> str:
        """The page, with less of everything where it would be longer than a description may be."""
        for length in _LENGTHS:
            page = _spaced(self._written(length))
            if len(page) <= most:
                return page
        return f"{page[: most - 1].rstrip()}…"

    def whole(self) -> str:
        """The page with more and longer examples, for the run's artifacts."""
        return self._written(_WHOLE)

    @cached_property
    def _scores(self) -> dict[str, list[float]]:
        """System -> the score of each row."""
        rows = self.report.rows
        targets, metric = [row.target for row in rows], OF_EACH_ROW[self.report.task]
        answers = {system: Answers(tuple(row.outputs[system] for row in rows)) for system in self.report.systems if rows}
        return {system: row_scores(metric, targets, found).tolist() for system, found in answers.items()}

    def won_and_lost(self, system: str) -> tuple[list[int], list[int]]:
        """Places of the test rows that the soft prompt answers better than a system, and worse."""
        pairs = list(enumerate(zip(self._scores.get("soft_prompt", ()), self._scores.get(system, ()), strict=True)))
        return [row for row, (mine, theirs) in pairs if mine > theirs], [row for row, (mine, theirs) in pairs if mine < theirs]

    def _written(self, length: _Length) -> str:
        report = self.report
        sections = [
            [f"**{report.reason}**"],
            [self._what()],
            list(_gates(report, length)),
            list(self._leads()),
            ["### All systems", "", *systems_table(report)] if length.systems else [],
            list(self._better_rows(length)) if length.examples and self.inputs else [],
            list(self._wrong_rows(length)) if length.examples and self.inputs else [],
            list(self._how()),
        ]
        return "\n\n".join("\n".join(lines) for lines in sections if lines)

    def _what(self) -> str:
        report = self.report
        worn = report.wear.judged_before if report.wear else 0
        return (
            f"{self.description}, for `{report.base_uri}` in {report.numerics}. {report.num_test_rows:,} test rows, evaluated "
            f"{report.evaluated}. Meant for channel `{self.channel}`."
            + (f" These rows judged {worn} other prompts of this name before." if worn else "")
        )

    def _leads(self) -> Iterator[str]:
        """The soft prompt against the champion first, then against everything else that answered the same rows."""
        yield from ("### Against the champion" if self.report.champion else "### Against what it replaces", "")
        others = sorted(self.report.systems, key=lambda system: system != "champion")
        leads = [found for system in others if (found := lead_over(self.report, system))]
        if leads:
            yield from ("| against | better by, with interval | rows won | rows lost | |", "| :--- | :--- | :--- | :--- | :--- |")
        for found in leads:
            won, lost = self.won_and_lost(found.baseline)
            told = "noise" if found.noise else ("**better**" if found.difference > 0 else "**worse**")
            yield f"| {system_title(found.baseline)} | {lead_text(found)} | {len(won)} | {len(lost)} | {told} |"
        yield from ("", _champion(self.report))

    def _better_rows(self, length: _Length) -> Iterator[str]:
        rival = "champion" if "champion" in self.report.systems else "bare_base"
        if rival in self.report.systems:
            yield from (f"### Rows it answers better than the {system_title(rival)}", "")
            yield from self._table(self.won_and_lost(rival)[0], ("soft_prompt", rival), length)

    def _wrong_rows(self, length: _Length) -> Iterator[str]:
        scores = self._scores["soft_prompt"]
        worst = min(scores)
        yield from ("### Rows it gets wrong" if worst == 0 else "### Rows it answers worst", "")
        yield from self._table([row for row, score in enumerate(scores) if score == worst < 1], ("soft_prompt",), length)

    def _table(self, rows: Sequence[int], systems: Sequence[str], length: _Length) -> Iterator[str]:
        """A few rows, from all over the test set; always the same ones."""
        if not rows:
            yield "None of the test rows."
            return
        yield f"| input | right answer | {' | '.join(system_title(system) for system in systems)} |"
        yield "| :--- |" + " :--- |" * (1 + len(systems))
        few = min(length.examples, len(rows))
        for place in range(few):
            row = rows[place * len(rows) // few]
            outcome = self.report.rows[row]
            texts = [self.inputs[row], outcome.target, *(outcome.outputs[system] for system in systems)]
            yield f"| {' | '.join(cell(text, length.characters) for text in texts)} |"

    def _how(self) -> Iterator[str]:
        yield from ("### To decide", "")
        yield f'- In a terminal: `softprompt review approve {self.name}@{self.version} --note "why"`, or `reject`.'
        tags = "`review.status` to `approved` or `rejected`, `review.reviewer` to who and `review.note` to why"
        yield f"- In MLflow: set the tags {tags}."
        propose = f"softprompt release propose {self.name} {self.version} --channel {self.channel}"
        yield f"- That serves nothing yet. `{propose}` makes the pull request; merging it is the approval."
        yield ""
        yield f"Prompt `sha256:{self.prompt}`. Its run has the full report (`report.html`) and more examples (`review.md`)."


def _spaced(page: str) -> str:
    """With room between the columns of tables and below them, of which MLflow's page leaves none."""
    lines = (_COLUMN_END.sub("&emsp; |", line) if line.startswith("| ") else line for line in page.split("\n"))
    return "\n".join(lines).replace("|\n\n### ", "|\n\n&nbsp;\n\n### ")


def lead_over(report: GateReport, system: str) -> Comparison | None:
    """The comparison with a system on the task's first metric, if it was made."""
    return next((found for found in report.comparisons if found.baseline == system), None)


def lead_text(found: Comparison) -> str:
    """`accuracy +0.031 [+0.002, +0.060]`; positive where the soft prompt is better, also where lower numbers are."""
    return f"{METRIC_TITLES[found.metric]} {found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def inputs_of(report: GateReport, rows: Iterable[Row]) -> list[str]:
    """Input texts parallel to a report's rows.

    Args:
        report: The evaluation.
        rows: The test rows of its dataset.

    Returns:
        Nothing at all where the report does not say which input each row had, or one is not there.
    """
    texts = {row.input_digest[:16]: _text(row) for row in rows}
    found = [texts[outcome.input] for outcome in report.rows if outcome.input in texts]
    return found if len(found) == len(report.rows) else []


def cell(text: str, most: int) -> str:
    """A text in a table: on one line, personal data masked, cut, and nothing in it taken for Markdown or HTML."""
    shown = "".join(character if character.isprintable() else " " for character in mask(text[: 10 * most]))
    line = " ".join(shown.split())
    line = line if len(line) <= most else f"{line[: most - 1].rstrip()}…"
    line = "".join(_ENTITIES.get(character, character) for character in line)
    return _MARKS.sub(lambda found: f"\\{found[1]}" if found[1] else "\\://", line)


def _gates(report: GateReport, length: _Length) -> Iterator[str]:
    shown = tuple(gate for gate in report.gates if length.all_gates or gate.status != "passed")
    yield from ("### Gates", "")
    if shown:
        yield from gates_table(report.model_copy(update={"gates": shown}))
    rest = len(report.gates) - len(shown)
    if rest or not shown:
        yield from ("", f"{rest} {'more ' if shown else ''}passed.")
    noted = [gate for gate in shown if gate.note and gate.status != "passed"]
    yield from ("", *(f"- {gate.rule}: {gate.note}" for gate in noted)) if noted else ()


def _champion(report: GateReport) -> str:
    if not report.champion:
        return "The channel served nothing under this name, so there was no champion."
    return f"The champion was `sha256:{report.champion[:12]}`. {report.notes.get('champion', '')}".rstrip()


def _text(row: Row) -> str:
    if len(row.inputs) == 1:
        return next(iter(row.inputs.values()))
    return " / ".join(f"{column}: {text}" for column, text in row.inputs.items())
