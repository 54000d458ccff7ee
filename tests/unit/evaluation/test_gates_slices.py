"""The gate on slices, against intervals of scikit-learn's and scipy's making and against brute force."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from softprompt.evaluation.gates import judge
from softprompt.evaluation.gates.parts import MOST_NAMES, MOST_ROW_IDS
from softprompt.evaluation.intervals import Interval, difference_of_proportions
from softprompt.evaluation.observations import Answers
from softprompt.evaluation.unpaired import magnitude, measure_between
from softprompt.recipe.gates import SlicesGate
from tests.unit.evaluation.seen import crowd, seen_crowds


def floor(*crowds, at_least=0.8, **more):
    return judge(SlicesGate(**({"kind": "slices", "columns": ("region",), "at_least": at_least} | more)), seen_crowds(*crowds))


def gap(*crowds, gap_at_most=0.2, **more):
    return judge(
        SlicesGate(**({"kind": "slices", "columns": ("region",), "gap_at_most": gap_at_most} | more)), seen_crowds(*crowds)
    )


def region(name, num_rows, num_right):
    return crowd(num_rows, num_right, region=name)


@pytest.mark.parametrize(("right_in_south", "expected"), [(97, "passed"), (60, "rejected"), (85, "undecided")])
def test_a_floor_is_one_for_every_slice(right_in_south, expected):
    result = floor(region("north", 100, 99), region("south", 100, right_in_south))
    assert result.status == expected
    assert result.estimate == right_in_south / 100
    bounds = binomtest(right_in_south, 100).proportion_ci(0.95, method="exact")
    assert (result.low, result.high) == (pytest.approx(bounds.low), pytest.approx(bounds.high))
    assert result.rule == "accuracy at least 0.8 in every slice of region; worst: region=south"
    assert (result.kind, result.metric, result.threshold, result.note) == ("slices", "accuracy", 0.8, "")
    assert [(part.name, part.num_rows, part.judged) for part in result.parts] == [
        ("region=south", 100, True),
        ("region=north", 100, True),
    ]


def test_the_rows_behind_a_floor_that_fails_are_the_worst_slices_wrong_ones():
    assert floor(region("north", 100, 85), region("south", 40, 38)).row_ids == tuple(f"row-{n}" for n in range(85, 100))
    assert floor(region("north", 100, 99), region("south", 100, 99)).row_ids == ()
    assert len(floor(region("north", 300, 0)).row_ids) == MOST_ROW_IDS == 100


def test_one_rejected_slice_rejects_though_a_worse_one_is_undecided():
    # 10 of 30 right leaves 0.5 inside the interval, 380 of 1000 does not.
    result = floor(region("north", 30, 10), region("south", 1000, 380), at_least=0.5)
    assert (result.status, result.rule.split("worst: ")[1]) == ("rejected", "region=south")


def test_rows_to_decide_is_counted_in_test_rows():
    result = floor(region("north", 900, 890), region("south", 100, 84))
    assert (result.status, result.rule.split("worst: ")[1]) == ("undecided", "region=south")
    times = result.rows_to_decide / 1000
    again = floor(region("north", 900, 890), region("south", round(100 * times), round(84 * times)))
    assert again.low == pytest.approx(0.8, abs=0.005)


def twice(result):
    """Rows of one slice of two alike, from those of one alone; both are rounded up."""
    return pytest.approx(2 * result.rows_to_decide, abs=2)


def test_the_last_slice_on_the_right_side_decides_but_the_first_on_the_wrong_one():
    one, other = region("north", 100, 85), region("south", 100, 86)
    assert floor(one, other).rows_to_decide == twice(floor(one))
    assert floor(other).rows_to_decide < floor(one).rows_to_decide
    wrong, worse = region("north", 100, 78), region("south", 100, 75)
    assert floor(wrong, worse).rows_to_decide == twice(floor(worse))
    assert floor(worse).rows_to_decide < floor(wrong).rows_to_decide
    assert floor(one, worse).rows_to_decide == twice(floor(worse))
    assert floor(one, region("south", 100, 80)).rows_to_decide is None
    assert floor(worse, region("west", 100, 80)).rows_to_decide == twice(floor(worse))


def test_a_slice_with_too_few_rows_is_listed_and_not_judged():
    result = floor(region("north", 100, 99), region("south", 29, 0))
    assert (result.status, result.note) == ("passed", "too few rows to judge region=south")
    small = result.parts[1]
    assert (small.name, small.num_rows, small.judged, small.estimate, small.low, small.high) == (
        "region=south",
        29,
        False,
        None,
        None,
        None,
    )
    assert floor(region("north", 100, 99), region("south", 30, 0)).status == "rejected"


def test_many_small_slices_are_named_up_to_a_limit():
    assert MOST_NAMES == 5
    several = [region(name, 2, 2) for name in "bcdef"]
    assert floor(region("a", 100, 100), *several).note == (
        "too few rows to judge region=b, region=c, region=d, region=e, region=f"
    )
    assert floor(region("a", 100, 100), *several, region("g", 2, 2), region("h", 2, 2)).note.endswith("region=f and 2 more")


def test_a_subgroup_with_two_rows_alone_leaves_the_gate_undecided():
    result = floor(region("north", 2, 2))
    assert (result.status, result.estimate, result.low, result.high) == ("undecided", None, None, None)
    assert result.note == "no slice of region with 30 rows; too few rows to judge region=north"
    assert result.rule == "accuracy at least 0.8 in every slice of region"
    assert [(part.name, part.judged) for part in result.parts] == [("region=north", False)]


def test_a_column_without_a_judged_slice_keeps_the_gate_from_passing():
    good, bad = crowd(100, 100, region="north"), crowd(100, 10, region="north")
    result = floor(good, columns=("region", "plan"))
    assert (result.status, result.estimate, result.rows_to_decide) == ("undecided", 1.0, None)
    assert result.note == "no slice of plan with 30 rows; 100 rows without plan belong to no group"
    assert floor(bad, columns=("region", "plan")).status == "rejected"


def test_no_rows_at_all():
    result = floor()
    assert (result.status, result.note) == ("undecided", "no slice of region with 30 rows")


def test_rows_without_a_value_are_counted():
    assert floor(region("north", 100, 99), crowd(7, 0)).note == "7 rows without region belong to no group"


def test_intersections_find_what_the_columns_hide():
    crowds = [
        crowd(100, right, region=a, plan=b) for a, b, right in (("1", "1", 98), ("1", "2", 69), ("2", "1", 70), ("2", "2", 99))
    ]
    single = floor(*crowds, columns=("region", "plan"), at_least=0.75)
    assert (single.status, single.rule) == (
        "passed",
        "accuracy at least 0.75 in every slice of region or of plan; worst: region=1",
    )
    both = floor(*crowds, columns=("region", "plan"), at_least=0.8, intersections=True)
    assert (both.status, both.rule) == (
        "rejected",
        "accuracy at least 0.8 in every slice of region and plan; worst: region=1, plan=2",
    )


@pytest.mark.parametrize(("right_in_south", "expected"), [(295, "passed"), (180, "rejected"), (238, "undecided")])
def test_a_gap_is_judged_between_slices(right_in_south, expected):
    result = gap(region("north", 300, 297), region("south", 300, right_in_south))
    assert result.status == expected
    size = (297 - right_in_south) / 300
    assert result.estimate == pytest.approx(size)
    assert result.rule == "accuracy at most 0.2 apart between slices of region; worst: region=north against region=south"
    signed = difference_of_proportions(297, 300, right_in_south, 300, 0.95)
    expected_low = 0.0 if signed.low <= 0 else signed.low
    assert (result.low, result.high) == (pytest.approx(expected_low), pytest.approx(max(-signed.low, signed.high)))
    assert result.parts[0].num_rows == 600


def test_a_gap_does_not_depend_on_which_slice_is_ahead():
    one = gap(region("north", 300, 297), region("south", 300, 200))
    other = gap(region("north", 300, 200), region("south", 300, 297))
    assert (one.estimate, one.low, one.high) == (
        pytest.approx(other.estimate),
        pytest.approx(other.low),
        pytest.approx(other.high),
    )


def test_a_gap_looks_at_all_pairs_and_the_widest_is_the_worst():
    result = gap(region("a", 300, 290), region("b", 300, 240), region("c", 300, 180), region("d", 5, 0))
    assert [part.name for part in result.parts] == [
        "region=a against region=c",
        "region=b against region=c",
        "region=a against region=b",
        "region=d",
    ]
    assert (result.status, result.row_ids[0], len(result.row_ids)) == ("rejected", "row-290", 100)
    assert result.note == "too few rows to judge region=d"


def test_the_pair_above_the_limit_decides_a_gap_before_the_one_below():
    above = [crowd(200, 180, region="north"), crowd(200, 130, region="south")]
    below = [crowd(200, 180, plan="free"), crowd(200, 150, plan="paid")]
    both = gap(*above, *below, columns=("region", "plan"))
    alone, other = gap(*above), gap(*below, columns=("plan",))
    assert (both.status, alone.status, other.status) == ("undecided", "undecided", "undecided")
    assert both.rows_to_decide == twice(alone)
    assert both.rows_to_decide != twice(other)


def test_exactly_the_least_number_of_rows_is_enough_for_a_gap():
    crowds = region("north", 30, 30), region("south", 30, 0)
    assert gap(*crowds).status == "rejected"
    assert gap(*crowds, min_rows=31).status == "undecided"


def test_a_gap_is_never_between_columns():
    result = gap(crowd(100, 100, region="a"), crowd(100, 10, plan="b"), columns=("region", "plan"))
    assert (result.status, result.estimate) == ("undecided", None)
    assert result.note.startswith("no two slices of region with 30 rows; no two slices of plan with 30 rows; too few") is False
    assert result.note.startswith(
        "no two slices of region with 30 rows; no two slices of plan with 30 rows; 100 rows without region"
    )


def test_rows_to_decide_a_gap():
    result = gap(region("north", 200, 180), region("south", 200, 150))
    assert result.status == "undecided"
    times = result.rows_to_decide / 400
    n = round(200 * times)
    again = gap(region("north", n, round(0.9 * n)), region("south", n, round(0.75 * n)))
    assert again.high == pytest.approx(0.2, abs=0.01)


def f1_seen(num_north=80, num_south=80, **more):
    generator = np.random.default_rng(5)
    crowds = []
    for name, count, share in (("north", num_north, 0.9), ("south", num_south, 0.6)):
        for target, wrong in (("x", "y"), ("y", "x")):
            right = round(share * count / 2)
            crowds += [crowd(count // 2, right, target=target, wrong=wrong, region=name)]
    seen = seen_crowds(*crowds, **more)
    return seen, generator


def test_metrics_without_rows_of_their_own_are_measured_in_each_slice():
    seen, _ = f1_seen()
    result = judge(SlicesGate(kind="slices", columns=("region",), metric="macro_f1", at_least=0.3), seen)
    south = [row.subgroups["region"] == "south" for row in seen.rows]
    pairs = [
        (row.target, out) for row, out, there in zip(seen.rows, seen.systems["soft_prompt"].outputs, south, strict=True) if there
    ]
    assert result.estimate == pytest.approx(f1_score(*zip(*pairs, strict=True), average="macro"))
    assert (result.status, result.metric) == ("passed", "macro_f1")


def test_a_difference_between_slices_is_near_a_bootstrap_of_both():
    """Resampled each by itself, row by row, with scikit-learn's F1."""
    seen, generator = f1_seen(num_samples=4000)
    outputs, targets = np.array(seen.systems["soft_prompt"].outputs), np.array(seen.targets)
    north = np.array([row.subgroups["region"] == "north" for row in seen.rows])
    found = measure_between(seen, "macro_f1", seen.systems["soft_prompt"], north, ~north, 0.9)

    def f1(rows):
        return f1_score(targets[rows], outputs[rows], average="macro", zero_division=0)

    sides = [np.flatnonzero(north), np.flatnonzero(~north)]
    drawn = [f1(generator.choice(sides[0], 80)) - f1(generator.choice(sides[1], 80)) for _ in range(400)]
    low, high = np.quantile(drawn, [0.05, 0.95])
    assert found.estimate == pytest.approx(f1(sides[0]) - f1(sides[1]))
    assert (found.low, found.high) == (pytest.approx(low, abs=0.03), pytest.approx(high, abs=0.03))


def test_slices_of_the_same_rows_still_differ_by_chance():
    """Two slices with the same answers in the same order: their difference has an interval, not a point."""
    both = [each for name in ("north", "south") for each in (region(name, 60, 45), crowd(40, 30, "y", "x", region=name))]
    seen = seen_crowds(*both)
    north = np.array([row.subgroups["region"] == "north" for row in seen.rows])
    found = measure_between(seen, "macro_f1", seen.systems["soft_prompt"], north, ~north, 0.95)
    assert found.estimate == 0
    assert found.low < -0.05
    assert found.high > 0.05


@pytest.mark.parametrize(
    ("signed", "size"),
    [
        ((0.1, 0.05, 0.2), (0.1, 0.05, 0.2)),
        ((-0.1, -0.2, -0.05), (0.1, 0.05, 0.2)),
        ((-0.1, -0.3, 0.2), (0.1, 0.0, 0.3)),
        ((0.1, -0.1, 0.3), (0.1, 0.0, 0.3)),
        ((0.2, 0.0, 0.3), (0.2, 0.0, 0.3)),
        ((-0.2, -0.3, 0.0), (0.2, 0.0, 0.3)),
    ],
)
def test_the_size_of_a_difference(signed, size):
    assert magnitude(Interval(*signed)) == Interval(*size)


def test_a_metric_that_the_answers_do_not_suffice_for():
    result = gap(region("north", 100, 90), region("south", 100, 90), metric="ece")
    assert (result.status, result.note) == ("undecided", "the answers do not suffice to measure calibration error")
    assert result.rule == "calibration error at most 0.2 apart between slices of region"


def test_a_bootstrap_on_few_rows_is_told():
    few = "an interval by bootstrap; how often it errs was not simulated below 50 rows"
    crowds = [crowd(20, 20, t, "y", region=name, plan="a") for name in ("north", "south") for t in ("x", "y")]
    assert floor(*crowds, metric="macro_f1", at_least=0.1).note == few
    assert floor(*crowds, columns=("plan",), metric="macro_f1", at_least=0.1).note == ""
    assert floor(*crowds, columns=("region", "plan"), metric="macro_f1", at_least=0.1).note == few
    assert floor(*crowds, at_least=0.1).note == ""
    smaller = floor(*crowds, region("west", 2, 2), columns=("plan",), metric="macro_f1", at_least=0.1)
    assert smaller.note == "2 rows without plan belong to no group"
    mixed = floor(*crowds, crowd(30, 30, region="west"), columns=("region",), min_rows=40, metric="macro_f1", at_least=0.1)
    assert mixed.note == f"too few rows to judge region=west; {few}"


def test_a_slice_just_too_small_does_not_decide_what_is_told():
    crowds = [crowd(30, 30, t, "y", region="north") for t in ("x", "y")]
    assert floor(*crowds, region("south", 49, 49), min_rows=50, metric="macro_f1", at_least=0.1).note == (
        "too few rows to judge region=south"
    )
    assert "below 50 rows" in floor(*crowds, region("south", 49, 49), min_rows=49, metric="macro_f1", at_least=0.1).note


def test_calibration_in_slices():
    seen = seen_crowds(region("north", 100, 90), region("south", 100, 60))
    answers = Answers(
        seen.systems["soft_prompt"].outputs,
        np.array([[0.9, 0.1] if out == "x" else [0.1, 0.9] for out in seen.systems["soft_prompt"].outputs]),
    )
    seen.systems["soft_prompt"] = answers
    result = judge(SlicesGate(kind="slices", columns=("region",), metric="ece", gap_at_most=0.1), seen)
    assert result.estimate == pytest.approx(0.3)
    assert result.status == "rejected"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"at_least": 0.5, "gap_at_most": 0.5}, "exactly one"),
        ({}, "exactly one"),
        ({"at_least": 1.5}, "between 0 and 1"),
        ({"metric": "brier", "at_least": 0.1}, "better where it is lower"),
    ],
)
def test_rules_that_say_nothing_are_refused(given, words):
    with pytest.raises(ValidationError, match=words):
        SlicesGate(**({"kind": "slices", "columns": ("region",)} | given))
