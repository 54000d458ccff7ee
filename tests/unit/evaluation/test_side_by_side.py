"""Two evaluations side by side: rows are matched by what was asked, and differences are those of the common rows."""

import json

import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from softprompt.cli import app
from softprompt.errors import InvalidRequest
from softprompt.evaluation.report.compare import conclusion, write_comparison
from softprompt.evaluation.side_by_side import put_side_by_side
from tests.unit.evaluation.reports import gate, report

N = 100


def said(num_right: int, first: int = 0) -> list[str]:
    """Answers of which `num_right` are right, the first of them in place `first`."""
    return ["x" if first <= row < first + num_right else "y" for row in range(N)]


def both(before: list[str], after: list[str], **more):
    return put_side_by_side(("old", "new"), report(before, ["x"] * N), report(after, ["x"] * N, **more))


def test_rows_are_matched_by_question_and_answer_whatever_their_order_and_ids():
    inputs = [f"{number:016x}" for number in range(N)]
    first = report(said(60), ["x"] * N, inputs=inputs)
    second = report(said(60)[::-1], ["x"] * N, inputs=inputs[::-1])
    found = put_side_by_side(("old", "new"), first, second)
    assert (found.num_common, found.won, found.lost) == (N, (), ())
    assert found.comparisons[0].difference == 0


def test_only_rows_that_both_answered_count():
    first = report(said(60), ["x"] * N)
    second = report(["x"] * 30, ["x"] * 30, inputs=[f"{number:016x}" for number in range(50, 80)])
    found = put_side_by_side(("old", "new"), first, second)
    assert found.num_common == 30
    assert found.comparisons[0].difference == pytest.approx(1 - 10 / 30), "the old one is right on rows 50 to 59"
    assert len(found.won) == 20


def test_a_row_whose_right_answer_changed_is_another_row():
    found = put_side_by_side(("a", "b"), report(["x", "x"], ["x", "x"]), report(["x", "x"], ["x", "z"]))
    assert found.num_common == 1


@pytest.mark.parametrize(
    ("before", "after", "headline", "colour"),
    [
        (50, 80, "The second is better", "passed"),
        (80, 50, "The second is worse", "rejected"),
        (70, 72, "No difference", "undecided"),
    ],
)
def test_the_conclusion_says_what_the_rows_can_tell(before, after, headline, colour):
    found = both(said(before), said(after))
    told, sentence, shown = conclusion(found)
    assert told.startswith(headline)
    assert shown == colour
    assert f"{(after - before) / N:+.3f}" in sentence


def test_the_p_value_is_mcnemars():
    """Mid-p: 12 rows only won, 3 only lost."""
    found = both(said(60, 3), said(69, 6))
    b, c = 9, 0
    assert (len(found.won), len(found.lost)) == (b + 3, c + 3)
    exact = binomtest(3, 15, 0.5).pvalue
    mid = exact - 2 * 0.5 * 455 / 2**15  # half of the probability of 3 of 15, on both sides
    assert found.comparisons[0].p_value == pytest.approx(mid, abs=1e-9)


def test_gates_stand_beside_each_other_also_where_one_side_has_none():
    old = report(said(80), ["x"] * N, gates=[gate("accuracy at least 0.8", "undecided"), gate("cost", "passed")])
    new = report(said(90), ["x"] * N, gates=[gate("accuracy at least 0.8", "passed")])
    found = put_side_by_side(("old", "new"), old, new)
    assert [(pair.rule, pair.before, pair.after) for pair in found.gates] == [
        ("accuracy at least 0.8", "undecided", "passed"),
        ("cost", "passed", ""),
    ]


def test_what_cannot_be_compared_is_said():
    other = report(["x"], ["x"], inputs=["f" * 16])
    with pytest.raises(InvalidRequest, match="no test row in common"):
        put_side_by_side(("a", "b"), report(said(60), ["x"] * N), other)
    with pytest.raises(InvalidRequest, match="different kinds of tasks"):
        put_side_by_side(("a", "b"), other, report(["x"], ["x"], task="generation"))


def test_the_page_shows_both(tmp_path):
    write_comparison(tmp_path / "page.html", both(said(50), said(80)))
    page = (tmp_path / "page.html").read_text()
    assert "<strong>The second is better</strong>" in page
    assert "+0.300" in page
    assert "<b>30</b> rows won by the second, <b>0</b> lost" in page
    assert len(page) < 1_000_000


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTPROMPT_HOME", str(tmp_path / "home"))
    for name, num_right in (("old", 50), ("new", 80)):
        (tmp_path / f"{name}.json").write_bytes(report(said(num_right), ["x"] * N).to_bytes())
    files = [str(tmp_path / "old.json"), str(tmp_path / "new.json")]
    result = CliRunner().invoke(app, ["compare", *files, "--html", str(tmp_path / "c.html"), "--json", str(tmp_path / "c.json")])
    assert result.exit_code == 0, result.output
    assert "The second is better" in result.output
    assert json.loads((tmp_path / "c.json").read_text())["num_common"] == N
    assert (tmp_path / "c.html").exists()
    unknown = CliRunner().invoke(app, ["compare", files[0], "nothing-here"])
    assert unknown.exit_code == 2
