"""The review page: what it says, that it fits, and that nobody's text does anything in it."""

import pytest

from softprompt.data.rows import Row
from softprompt.evaluation.gate_report import Comparison, GateReport, Measured, Wear
from softprompt.evaluation.report.review import MOST_CHARACTERS, ReviewPage, cell, inputs_of
from tests.unit.evaluation.reports import gate, report

TARGETS = ["red", "blue", "red", "blue", "red", "blue"]
MINE = ["red", "blue", "red", "blue", "blue", "blue"]
THEIRS = ["red", "red", "red", "red", "red", "blue"]


def with_rival(rival="champion", **changes) -> GateReport:
    """A soft prompt that wins rows 1 and 3 and loses row 4."""
    made = report(MINE, TARGETS, gates=[gate("accuracy at least 0.8", "passed"), gate("slices", "undecided")])
    rows = tuple(
        row.model_copy(update={"outputs": row.outputs | {rival: theirs}}) for row, theirs in zip(made.rows, THEIRS, strict=True)
    )
    comparison = Comparison(
        baseline=rival,
        metric="accuracy",
        difference=0.25,
        low=0.1,
        high=0.4,
        confidence=0.95,
        p_value=0.01,
        p_holm=0.01,
        num_rows=6,
    )
    theirs = Measured(system=rival, metric="accuracy", estimate=0.5, low=0.0, high=1.0, confidence=0.95)
    known = {"rows": rows, "comparisons": (comparison,), "measured": (*made.measured, theirs)}
    known |= {"champion": "c" * 64} if rival == "champion" else {}
    return made.model_copy(update=known | changes)


def page_of(found: GateReport, inputs=tuple(f"text {number}" for number in range(6))) -> ReviewPage:
    return ReviewPage(
        report=found, name="colours", version="3", channel="staging", prompt="a" * 64, description="Shallow prompt", inputs=inputs
    )


def test_it_says_verdict_gates_lead_rows_and_how_to_decide():
    text = page_of(with_rival()).fitting().replace("&emsp;", "")
    assert text.startswith("**Undecided")
    assert "| accuracy at least 0.8 | 0.900 [0.850, 0.950] | block | **passed** |" in text
    assert "| champion | accuracy +0.250 [+0.100, +0.400] | 2 | 1 | **better** |" in text
    assert "The champion was `sha256:cccccccccccc`." in text
    better, wrong = text.split("### Rows it gets wrong")
    assert "| text 1 | blue | blue | red |" in better
    assert "| text 3 | blue | blue | red |" in better
    assert "| text 4 | red | blue |" in wrong
    assert "softprompt review approve colours@3" in text
    assert "softprompt release propose colours 3 --channel staging" in text
    assert "`review.status`" in text


def test_without_a_champion_the_bare_base_is_what_it_is_held_against():
    text = page_of(with_rival("bare_base")).fitting()
    assert "### Against what it replaces" in text
    assert "### Rows it answers better than the bare base" in text
    assert "there was no champion" in text


def test_noise_and_worse_are_told():
    (comparison,) = with_rival().comparisons
    noise = with_rival(comparisons=(comparison.model_copy(update={"p_holm": 0.5}),))
    assert "| 2 | 1 | noise |" in page_of(noise).whole()
    worse = with_rival(comparisons=(comparison.model_copy(update={"difference": -0.2}),))
    assert "| 2 | 1 | **worse** |" in page_of(worse).whole()


def test_what_a_reviewer_should_know_is_there():
    noted = gate("slices", "undecided").model_copy(update={"note": "12 rows are few"})
    found = with_rival(gates=(noted,), wear=Wear(judged_before=7), notes={"champion": "2 of 6 test rows are left out."})
    text = page_of(found).fitting()
    assert "- slices: 12 rows are few" in text
    assert "These rows judged 7 other prompts of this name before." in text
    assert "2 of 6 test rows are left out." in text


@pytest.mark.parametrize("num_gates", [1, 12, 40, 200])
@pytest.mark.parametrize("characters", [10, 3000])
def test_it_always_fits_into_a_description(num_gates, characters):
    """Of MLflow's column on PostgreSQL, counted in characters."""
    gates = tuple(gate(f"accuracy of slice number {number} at least 0.8", "passed") for number in range(num_gates))
    failing = tuple(gate(f"a gate that fails, of number {number}", "rejected") for number in range(num_gates // 5))
    page = page_of(with_rival(gates=gates + failing), inputs=("ü" * characters,) * 6)
    text = page.fitting()
    assert len(text) <= MOST_CHARACTERS
    assert text.startswith("**Undecided"), "what matters most is never cut"
    if num_gates < 200:
        assert "softprompt review approve" in text
    assert len(page.whole()) >= len(text.replace("&emsp;", "").replace("&nbsp;\n\n", ""))


def test_a_long_page_keeps_the_gates_that_did_not_pass():
    gates = (
        *(gate(f"accuracy of slice number {number} at least 0.8", "passed") for number in range(80)),
        gate("the one", "rejected"),
    )
    text = page_of(with_rival(gates=gates)).fitting()
    assert "| the one&emsp; |" in text
    assert "80 more passed." in text


def test_without_input_texts_there_are_no_examples():
    text = page_of(with_rival(), inputs=()).fitting()
    assert "Rows it" not in text


def test_nothing_is_wrong_where_everything_is_right():
    text = page_of(report(TARGETS, TARGETS)).fitting()
    assert text.split("### Rows it answers worst")[1].strip().startswith("None of the test rows.")


def test_a_report_without_rows_has_a_page():
    assert "Gates" in page_of(report([], []), inputs=()).fitting()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\tand  more", "two lines and more"),
        ("a | b", r"a \| b"),
        ("**bold** _it_ `code` ~no~ #1", r"\*\*bold\*\* \_it\_ \`code\` \~no\~ \#1"),
        ("<script>alert(1)</script> &amp;", "&lt;script&gt;alert(1)&lt;/script&gt; &amp;amp;"),
        ("[click](javascript:alert(1))", r"\[click\](javascript:alert(1))"),
        ("![x](http://evil.example/x.png)", r"!\[x\](http\://evil.example/x.png)"),
        ("write to joe.bloggs@example.org now", "write to j…@… now"),
        ("\x1b[31mred\u202e", r"\[31mred"),
        ("x" * 100, "x" * 39 + "…"),
    ],
)
def test_somebodys_text_is_text(text, shown):
    assert cell(text, 40) == shown


def test_columns_have_room_between_them_and_a_bar_in_a_text_stays():
    text = page_of(with_rival(), inputs=("a | b",) * 6).fitting()
    assert r"| a \| b&emsp; | blue&emsp; | blue&emsp; | red |" in text
    assert "| :--- | :--- | :--- | :--- |" in text


def test_personal_data_is_masked_before_the_text_is_cut():
    text = "x" * 30 + " joe.bloggs@example.org"
    assert "joe" not in cell(text, 35)


def test_input_texts_are_found_by_what_was_asked():
    rows = [Row(f"r{number}", number, {"text": f"Text {number}"}, "red", part="test") for number in range(3)]
    outputs = ["red"] * 3
    found = report(outputs, outputs, inputs=[row.input_digest[:16] for row in reversed(rows)])
    assert inputs_of(found, rows) == ["Text 2", "Text 1", "Text 0"]
    assert inputs_of(found, rows[:2]) == [], "all or none"
    two = [Row("r", 1, {"subject": "Hi", "body": "there"}, "red")]
    assert inputs_of(report(["red"], ["red"], inputs=[two[0].input_digest[:16]]), two) == ["subject: Hi / body: there"]
