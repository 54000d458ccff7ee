"""Gates of a metric where there is nothing to measure, or what is measured needs a word."""

from dataclasses import replace

import numpy as np
import pytest

from softprompt.evaluation.gates import judge
from softprompt.evaluation.observations import Answers, Observations
from softprompt.recipe.gates import MetricGate
from tests.unit.evaluation.seen import crowd, seen_crowds, seen_shares


def judged(gate: dict, seen: Observations):
    return judge(MetricGate(**gate), seen)


def two_countries() -> Observations:
    return seen_crowds(crowd(100, 95, country="no"), crowd(100, 50, country="se"))


@pytest.mark.parametrize(("country", "expected"), [("no", "passed"), ("se", "rejected")])
def test_a_slice_is_judged_by_its_own_rows(country, expected):
    result = judged({"metric": "accuracy", "slice": {"country": country}, "at_least": 0.8}, two_countries())
    assert (result.status, result.estimate) == (expected, {"no": 0.95, "se": 0.5}[country])


@pytest.mark.parametrize("rule", [{"at_least": 0.8}, {"at_most": 0.8}, {"better_than": "soft_prompt"}])
def test_a_slice_without_rows_is_undecided_and_says_so(rule):
    result = judged({"metric": "macro_f1", "slice": {"country": "fi"}, **rule}, two_countries())
    assert (result.status, result.estimate, result.rows_to_decide) == ("undecided", None, None)
    assert result.note == ("no test row is left to compare on" if "better_than" in rule else "no test row lies in the slice")


@pytest.mark.parametrize("rule", [{"better_than": "champion"}, {"not_worse_than": "champion", "margin": 0.02}])
def test_where_no_champion_is_there_is_nothing_to_beat(rule):
    result = judged({"metric": "accuracy", **rule}, seen_shares({"soft_prompt": 0.5}))
    assert (result.status, result.estimate, result.note) == ("passed", None, "the channel serves no prompt yet")


def test_a_champion_that_could_not_answer_is_not_beaten():
    seen = replace(seen_shares({"soft_prompt": 0.5}), notes={"champion": "the champion is of another base"})
    result = judged({"metric": "accuracy", "better_than": "champion"}, seen)
    assert (result.status, result.estimate, result.note) == ("undecided", None, "the champion is of another base")


def test_a_champion_that_was_trained_on_every_row_cannot_be_compared():
    seen = replace(seen_shares({"soft_prompt": 0.9, "champion": 0.1}), comparable={"champion": np.zeros(200, dtype=bool)})
    assert judged({"metric": "accuracy", "better_than": "champion"}, seen).status == "undecided"


def test_a_champion_is_compared_on_the_rows_that_it_was_not_trained_on():
    free = np.arange(200) >= 100
    seen = replace(seen_shares({"soft_prompt": 1.0, "champion": 0.5}), comparable={"champion": free})
    assert judged({"metric": "accuracy", "better_than": "champion"}, seen).estimate == 1.0


def test_a_metric_of_probabilities_that_nobody_gave_is_undecided():
    result = judged({"metric": "ece", "at_most": 0.1}, seen_shares({"soft_prompt": 0.9}))
    assert (result.status, result.note) == ("undecided", "the soft prompt gives no probabilities, which this metric needs")


@pytest.mark.parametrize(
    ("confidence", "at_most", "expected"), [(0.9, 0.15, "passed"), (0.9, 0.005, "undecided"), (0.5, 0.1, "rejected")]
)
def test_the_calibration_error_passes_below_its_ceiling(confidence, at_most, expected):
    """90 % right: saying 0.9 is calibrated, saying 0.5 is not."""
    said = ("x",) * 360 + ("y",) * 40
    likely = np.array([[confidence, 1 - confidence] if output == "x" else [1 - confidence, confidence] for output in said])
    seen = seen_shares({"soft_prompt": 0.9}, num_rows=400)
    seen = replace(seen, systems={"soft_prompt": Answers(said, likely)})
    assert judged({"metric": "ece", "at_most": at_most}, seen).status == expected


@pytest.mark.parametrize(("mine", "theirs", "expected"), [(0.9, 0.4, "passed"), (0.4, 0.9, "rejected"), (0.6, 0.6, "undecided")])
def test_lower_numbers_are_a_lead_where_lower_is_better(mine, theirs, expected):
    def sure(share):
        return Answers(("x",) * 200, np.repeat([[share, 1 - share]], 200, axis=0))

    seen = replace(seen_shares({}), systems={"soft_prompt": sure(mine), "bare_base": sure(theirs)})
    result = judged({"metric": "brier", "better_than": "bare_base"}, seen)
    assert result.status == expected
    assert result.estimate == pytest.approx((1 - theirs) ** 2 - (1 - mine) ** 2)


def test_rows_of_one_label_only_are_named():
    result = judged({"metric": "macro_f1", "at_least": 0.5}, seen_shares({"soft_prompt": 0.9}))
    assert "all these rows have the label x" in result.note
