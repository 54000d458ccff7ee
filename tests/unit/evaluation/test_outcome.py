"""Thresholds, the rows that would decide, and the verdict in words."""

import pytest

from softprompt.evaluation.gate_report import GateResult
from softprompt.evaluation.gates import verdict_of
from softprompt.evaluation.gates.outcome import above, at_least, at_most, not_measured, outcome, rows_to_decide
from softprompt.evaluation.intervals import Interval
from softprompt.recipe.gates import LeakageGate, SlicesGate

GATE = LeakageGate(kind="leakage")


@pytest.mark.parametrize(
    ("low", "high", "reached", "exceeded", "kept"),
    [
        (0.6, 0.7, "passed", "passed", "rejected"),
        (0.5, 0.7, "passed", "undecided", "undecided"),
        (0.4, 0.6, "undecided", "undecided", "undecided"),
        (0.4, 0.5, "undecided", "rejected", "passed"),
        (0.3, 0.4, "rejected", "rejected", "passed"),
        (0.5, 0.5, "passed", "rejected", "passed"),
    ],
)
def test_the_interval_against_the_threshold(low, high, reached, exceeded, kept):
    interval = Interval((low + high) / 2, low, high)
    assert (at_least(interval, 0.5), above(interval, 0.5), at_most(interval, 0.5)) == (reached, exceeded, kept)


@pytest.mark.parametrize(
    ("interval", "rows"),
    [
        # Twice as far to the limit as to the threshold takes four times the rows; the side towards the threshold counts.
        (Interval(0.6, 0.4, 0.65), 400),
        (Interval(0.4, 0.35, 0.7), 900),
        (Interval(0.8, 0.2, 0.9), 400),
        (Interval(0.5, 0.4, 0.6), None),
        (Interval(0.5 + 1e-12, 0.4, 0.6), None),
    ],
)
def test_rows_to_decide(interval, rows):
    assert rows_to_decide(interval, 0.5, 100) == (None if rows is None else pytest.approx(rows, abs=1))


def test_a_difference_of_nothing_but_rounding_needs_more_rows_than_there_are():
    assert rows_to_decide(Interval(1e-17, -0.1, 0.1), 0.0, 100) is None


def result(status, severity="block", rows=0) -> GateResult:
    gate = GATE.model_copy(update={"severity": severity})
    return outcome(gate, rule="a rule", interval=Interval(0.6, 0.4, 0.65), threshold=0.5, status=status, num_rows=rows)


def test_only_an_undecided_gate_of_a_sample_says_how_many_rows_would_decide_it():
    assert result("undecided", rows=100).rows_to_decide in (400, 401)
    assert result("undecided").rows_to_decide is None
    assert result("passed", rows=100).rows_to_decide is None
    assert result("undecided", rows=1).rows_to_decide in (4, 5)


def test_the_verdict_in_words():
    assert verdict_of([result("passed")]) == ("passed", "Passed: the one gate that can block holds.")
    assert verdict_of([result("passed")] * 2 + [result("rejected", "warn")]) == (
        "passed",
        "Passed: all 2 gates that can block hold.",
    )
    shown = "a rule, measured 0.600 [0.400, 0.650]"
    assert verdict_of([result("rejected"), result("undecided"), result("rejected")]) == (
        "rejected",
        f"Rejected: {shown}; {shown}.",
    )
    assert verdict_of([result("passed"), result("undecided")]) == ("undecided", f"Undecided: {shown}.")


def test_nothing_measured_still_says_what_it_is_about():
    about = SlicesGate(kind="slices", columns=("region",), metric="macro_f1", at_least=0.5)
    assert not_measured(about, rule="a rule", threshold=0.5, note="why").metric == "macro_f1"
    assert not_measured(GATE, rule="a rule", threshold=0.5, note="why").metric == ""
