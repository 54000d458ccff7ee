"""Gates: every kind has a case that passes, one that is rejected and one that stays undecided."""

import pytest

from softprompt.evaluation.gate_report import GateResult, rejection_text
from softprompt.evaluation.gates import judge, verdict_of
from softprompt.evaluation.gates.outcome import above, at_least, at_most
from softprompt.evaluation.intervals import Interval
from softprompt.recipe.gates import MetricGate
from tests.unit.evaluation.seen import seen_shares

N = 200


def status(gate: dict, mine: float, bare: float = 0.2, num_rows: int = N) -> GateResult:
    return judge(MetricGate(**gate), seen_shares({"soft_prompt": mine, "bare_base": bare, "instruction": 0.5}, num_rows))


@pytest.mark.parametrize(("share", "expected"), [(0.9, "passed"), (0.6, "rejected"), (0.82, "undecided")])
def test_an_absolute_threshold(share, expected):
    assert status({"metric": "accuracy", "at_least": 0.8}, share).status == expected


@pytest.mark.parametrize(("share", "expected"), [(0.9, "passed"), (0.1, "rejected"), (0.21, "undecided")])
def test_better_than_the_bare_base(share, expected):
    assert status({"metric": "accuracy", "better_than": "bare_base"}, share).status == expected


@pytest.mark.parametrize(("share", "expected"), [(0.9, "passed"), (0.55, "rejected"), (0.7, "undecided")])
def test_better_than_the_instruction_by_a_margin(share, expected):
    assert status({"metric": "accuracy", "better_than": "instruction", "by": 0.2}, share).status == expected


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_the_same_answers_as_the_baselines_prove_nothing(metric):
    """200 rows on which two systems agree do not show that they always do."""
    result = status({"metric": metric, "better_than": "bare_base"}, 0.2)
    assert (result.status, result.estimate, result.rows_to_decide) == ("undecided", 0.0, None)
    assert result.low < 0 < result.high


def test_two_hundred_right_answers_do_not_show_perfection():
    assert status({"metric": "macro_f1", "at_least": 1.0}, 1.0).status == "undecided"


def test_an_interval_that_touches_the_threshold_from_the_right_side_passes():
    assert at_least(Interval(0.9, 0.8, 1.0), 0.8) == at_most(Interval(0.7, 0.6, 0.8), 0.8) == "passed"
    assert above(Interval(0.1, 0.0, 0.2), 0.0) == "undecided"


def test_an_undecided_gate_says_how_many_rows_would_decide_it():
    result = status({"metric": "accuracy", "at_least": 0.8}, 0.82)
    assert result.rows_to_decide is not None
    assert result.rows_to_decide > N
    # With that many rows of the same kind it does.
    again = status({"metric": "accuracy", "at_least": 0.8}, 0.82, num_rows=result.rows_to_decide)
    assert again.low == pytest.approx(0.8, abs=0.005)


def test_a_wider_level_is_harder_to_pass():
    at = lambda confidence: status({"metric": "accuracy", "at_least": 0.8, "confidence": confidence}, 0.86)
    assert at(0.8).low > at(0.95).low > at(0.999).low


def results(*states: tuple[str, str]) -> list[GateResult]:
    base = status({"metric": "accuracy", "at_least": 0.8}, 0.9)
    return [base.model_copy(update={"status": status, "severity": severity}) for status, severity in states]


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        ([("passed", "block")], "passed"),
        ([("passed", "block"), ("rejected", "warn")], "passed"),
        ([("passed", "block"), ("undecided", "block")], "undecided"),
        ([("undecided", "block"), ("rejected", "block")], "rejected"),
        ([("passed", "block"), ("undecided", "warn"), ("rejected", "block")], "rejected"),
    ],
)
def test_the_verdict_is_that_of_the_gates_that_block(states, verdict):
    found, reason = verdict_of(results(*states))
    assert found == verdict
    assert reason.lower().startswith(verdict)


def test_a_rejection_says_which_gate_and_what_it_measured():
    _, reason = verdict_of([status({"metric": "accuracy", "at_least": 0.8}, 0.6)])
    assert reason == "Rejected: accuracy at least 0.8, measured 0.600 [0.529, 0.668]."
    assert callable(rejection_text)
