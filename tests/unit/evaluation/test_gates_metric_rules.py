"""The gate on a metric: slices, ceilings, margins, what cannot be measured, and all of it in words."""

import numpy as np
import pytest
from scipy.stats import binomtest

from softprompt.evaluation.gates import judge
from softprompt.evaluation.observations import Answers
from softprompt.evaluation.proportions import paired_limits
from softprompt.recipe.gates import MetricGate
from tests.unit.evaluation.seen import crowd, seen_crowds


def seen_against(mine=150, theirs=130, system="bare_base", probabilities=None, **more):
    """200 rows; two systems that are right on the first of them, and how sure they are."""
    seen = seen_crowds(crowd(200, mine), **more)
    outputs = tuple("x" if number < theirs else "y" for number in range(200))
    answers = {"soft_prompt": Answers(seen.systems["soft_prompt"].outputs), system: Answers(outputs)}
    if probabilities:
        answers = {
            name: Answers(
                each.outputs, np.array([[sure, 1 - sure] if said == "x" else [1 - sure, sure] for said in each.outputs])
            )
            for (name, each), sure in zip(answers.items(), probabilities, strict=True)
        }
    return type(seen)(**(vars(seen) | {"systems": answers}))


def seen_none():
    seen = seen_crowds()
    return type(seen)(**(vars(seen) | {"systems": {"soft_prompt": Answers(()), "bare_base": Answers(())}}))


def metric(seen, **given):
    return judge(MetricGate(**({"metric": "accuracy"} | given)), seen)


@pytest.mark.parametrize(("limit", "status"), [(0.9, "passed"), (0.6, "rejected"), (0.76, "undecided")])
def test_a_ceiling(limit, status):
    result = metric(seen_against(), at_most=limit)
    bounds = binomtest(150, 200).proportion_ci(0.95, method="exact")
    assert (result.status, result.threshold, result.estimate) == (status, limit, 0.75)
    assert (result.low, result.high) == (pytest.approx(bounds.low), pytest.approx(bounds.high))
    assert result.rule == f"accuracy at most {limit:g}"
    assert (result.rows_to_decide is not None) == (status == "undecided")


def test_a_floor_of_a_slice_with_all_its_values():
    crowds = [crowd(100, right, region=a, plan=b) for a, b, right in (("n", "free", 95), ("n", "paid", 20), ("s", "free", 10))]
    result = metric(seen_crowds(*crowds), at_least=0.8, slice={"region": "n", "plan": "free"})
    assert (result.status, result.estimate, result.rule) == ("passed", 0.95, "accuracy, region n, plan free at least 0.8")
    assert metric(seen_crowds(*crowds), at_least=0.8, slice={"region": "n"}).estimate == pytest.approx(115 / 200)
    empty = metric(seen_crowds(*crowds), at_least=0.8, slice={"region": "q"})
    assert (empty.status, empty.estimate, empty.note) == ("undecided", None, "no test row lies in the slice")
    assert (empty.rule, empty.threshold) == ("accuracy, region q at least 0.8", 0.8)


def test_no_rows_at_all():
    assert metric(seen_none(), better_than="bare_base").note == "no test row is left to compare on"
    result = metric(seen_crowds(), at_least=0.8)
    assert (result.status, result.estimate, result.note) == ("undecided", None, "no test row lies in the slice")


@pytest.mark.parametrize(
    ("given", "threshold", "status", "rule"),
    [
        ({"better_than": "bare_base"}, 0.0, "passed", "accuracy above the bare base's"),
        ({"better_than": "bare_base", "by": 0.2}, 0.2, "rejected", "accuracy above the bare base's by more than 0.2"),
        ({"better_than": "bare_base", "by": 0.1}, 0.1, "undecided", "accuracy above the bare base's by more than 0.1"),
        (
            {"not_worse_than": "bare_base", "margin": 0.05},
            -0.05,
            "passed",
            "accuracy not worse than the bare base's by 0.05 or more",
        ),
    ],
)
def test_a_lead_is_paired(given, threshold, status, rule):
    result = metric(seen_against(), **given)
    low, high = paired_limits(20, 0, 200, 0.95)
    assert (result.estimate, result.low, result.high) == (
        pytest.approx(0.1),
        pytest.approx(float(low)),
        pytest.approx(float(high)),
    )
    assert (result.threshold, result.status, result.rule) == (threshold, status, rule)


@pytest.mark.parametrize(("theirs", "status"), [(190, "rejected"), (158, "undecided"), (150, "passed")])
def test_not_worse_by_a_margin(theirs, status):
    assert metric(seen_against(150, theirs), not_worse_than="bare_base", margin=0.05).status == status


def test_where_lower_is_better_a_lead_is_below():
    # The soft prompt is right on three quarters and as sure; the other is much too sure.
    result = metric(seen_against(150, 150, probabilities=(0.75, 0.99)), metric="ece", better_than="bare_base")
    assert (result.status, result.rule) == ("passed", "calibration error below the bare base's")
    assert result.estimate == pytest.approx(0.24)
    assert result.low < result.estimate < result.high
    assert metric(seen_against(150, 150, probabilities=(0.99, 0.75)), metric="ece", better_than="bare_base").status == "rejected"


def test_only_rows_on_which_a_champion_may_be_compared():
    seen = seen_against(system="champion", comparable={"champion": np.arange(200) < 100})
    result = metric(seen, not_worse_than="champion", margin=0.05)
    low, high = paired_limits(0, 0, 100, 0.95)
    assert (result.estimate, result.low, result.high) == (0.0, pytest.approx(float(low)), pytest.approx(float(high)))
    none = seen_against(system="champion", comparable={"champion": np.zeros(200, dtype=bool)})
    result = metric(none, not_worse_than="champion", margin=0.05)
    assert (result.status, result.estimate, result.note) == ("undecided", None, "no test row is left to compare on")


def test_a_channel_without_a_champion_lets_every_prompt_pass():
    result = metric(seen_against(), not_worse_than="champion", margin=0.05)
    assert (result.status, result.estimate, result.note) == ("passed", None, "the channel serves no prompt yet")
    assert (result.rule, result.threshold) == ("accuracy not worse than the champion's by 0.05 or more", -0.05)


def test_a_baseline_that_did_not_answer():
    told = metric(seen_against(notes={"champion": "it is on another base"}), better_than="champion")
    assert (told.status, told.estimate, told.note) == ("undecided", None, "it is on another base")
    silent = metric(seen_against(), better_than="lora")
    assert (silent.status, silent.estimate, silent.note) == ("undecided", None, "the LoRA did not answer")


def test_a_metric_of_probabilities_without_probabilities():
    result = metric(seen_against(), metric="ece", at_most=0.1)
    assert (result.status, result.estimate) == ("undecided", None)
    assert (result.note, result.rule) == (
        "the soft prompt gives no probabilities, which this metric needs",
        "calibration error at most 0.1",
    )
    seen = seen_against(probabilities=(0.9, 0.9))
    seen.systems["bare_base"] = Answers(seen.systems["bare_base"].outputs)
    lead = metric(seen, metric="brier", better_than="bare_base")
    assert lead.note == "the bare base gives no probabilities, which this metric needs"


def test_one_class_only_is_told_where_labels_count():
    assert metric(seen_against(), metric="macro_f1", at_least=0.1).note == "all these rows have the label x"
    assert metric(seen_against(), at_least=0.1).note == ""
    two = seen_crowds(crowd(50, 50), crowd(50, 50, target="y", wrong="x"))
    assert metric(two, metric="macro_f1", at_least=0.1).note == ""


def test_all_notes_are_told():
    few = "an interval by bootstrap; how often it errs was not simulated below 50 rows"
    assert metric(seen_crowds(crowd(40, 40)), metric="macro_f1", at_least=0.1).note == f"all these rows have the label x; {few}"
    assert metric(seen_crowds(crowd(40, 40)), at_least=0.1).note == ""


def test_rows_to_decide_are_those_of_the_comparison():
    result = metric(seen_against(comparable={"bare_base": np.arange(200) >= 50}), better_than="bare_base", by=0.1)
    reach, distance = result.estimate - result.low, result.estimate - 0.1
    assert result.status == "undecided"
    assert result.rows_to_decide == pytest.approx(150 * (reach / distance) ** 2, abs=1)
