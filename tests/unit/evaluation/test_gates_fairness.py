"""The gate on fairness: point estimates are fairlearn's, intervals those of two independent shares."""

import numpy as np
import pytest
from fairlearn.metrics import demographic_parity_difference, equal_opportunity_difference, equalized_odds_difference
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt.evaluation.gates import judge
from softprompt.evaluation.intervals import difference_of_proportions
from softprompt.recipe.gates import FairnessGate
from tests.unit.evaluation.seen import crowd, seen_crowds

FAIRLEARN = {
    "demographic_parity": demographic_parity_difference,
    "equal_opportunity": equal_opportunity_difference,
    "equalised_odds": equalized_odds_difference,
}


def fairness(seen, criterion="demographic_parity", at_most=0.2, label="x", **more):
    wanted = {"kind": "fairness", "columns": ("region",), "criterion": criterion, "at_most": at_most, "label": label}
    return judge(FairnessGate(**(wanted | more)), seen)


def group(region, deserve=200, given=180, rest=200, given_wrongly=20, **more):
    """Rows of a group: those that deserve `x`, and the rest, with how many of each are given it."""
    return [
        *crowd(deserve, given, target="x", wrong="y", region=region, **more),
        *crowd(rest, rest - given_wrongly, target="y", wrong="x", region=region, **more),
    ]


@pytest.mark.parametrize("criterion", FAIRLEARN)
@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from(["x", "y", "z"]), st.integers(2, 4))
def test_estimates_equal_fairlearns(criterion, seed, label, num_groups):
    generator = np.random.default_rng(seed)
    groups = [f"g{number}" for number in generator.integers(0, num_groups, 120)]
    targets, outputs = generator.choice(["x", "y", "z"], (2, 120))
    said = [({"target": str(t), "subgroups": {"region": g}}, str(o)) for g, t, o in zip(groups, targets, outputs, strict=True)]
    # Each group has both kinds of rows, or a rate would not exist.
    for name in set(groups):
        said += [({"target": target, "subgroups": {"region": name}}, "x") for target in "xyz" for _ in range(2)]
    found = fairness(seen_crowds(said, labels=("x", "y", "z")), criterion, label=label, min_rows=2)
    true, answered = np.array([what["target"] for what, _ in said]), np.array([output for _, output in said])
    names = [what["subgroups"]["region"] for what, _ in said]
    reference = FAIRLEARN[criterion](true == label, answered == label, sensitive_features=names)
    assert max(part.estimate for part in found.parts) == pytest.approx(reference)


@pytest.mark.parametrize(
    ("criterion", "given_in_south", "wrongly_in_south", "expected"),
    [
        ("demographic_parity", 175, 22, "passed"),
        ("demographic_parity", 60, 5, "rejected"),
        ("demographic_parity", 110, 15, "undecided"),
        ("equal_opportunity", 175, 150, "passed"),
        ("equal_opportunity", 80, 20, "rejected"),
        ("equal_opportunity", 140, 20, "undecided"),
        ("equalised_odds", 175, 22, "passed"),
        ("equalised_odds", 80, 20, "rejected"),
        ("equalised_odds", 180, 100, "rejected"),
        ("equalised_odds", 180, 60, "undecided"),
    ],
)
def test_each_criterion_passes_rejects_and_stays_undecided(criterion, given_in_south, wrongly_in_south, expected):
    seen = seen_crowds(group("north"), group("south", given=given_in_south, given_wrongly=wrongly_in_south))
    assert fairness(seen, criterion).status == expected


def test_the_result_is_the_worst_pairs_with_its_interval():
    seen = seen_crowds(group("north"), group("south", given=80))
    result = fairness(seen, "equal_opportunity", confidence=0.9)
    expected = difference_of_proportions(180, 200, 80, 200, 0.9)
    assert (result.estimate, result.low, result.high) == (expected.estimate, expected.low, expected.high)
    assert result.rule == (
        "shares of rows of the label x that are given it at most 0.2 apart between groups of region; "
        "worst: true positive rate of x, region=north against region=south"
    )
    assert (result.kind, result.metric, result.threshold, result.confidence, result.note) == ("fairness", "", 0.2, 0.9, "")
    assert [(part.num_rows, part.judged) for part in result.parts] == [(400, True)]
    # Wrong among the rows of x: the last 20 of the north's first 200, the last 120 of the south's.
    assert result.row_ids == tuple(f"row-{n}" for n in [*range(180, 200), *range(480, 560)])


def test_a_rate_counts_only_the_rows_behind_it():
    seen = seen_crowds(group("north"), group("south", given=150, given_wrongly=60))
    by_name = {part.name: part for part in fairness(seen, "equalised_odds").parts}
    true, false = (
        by_name[f"{rate} of x, region=north against region=south"] for rate in ("true positive rate", "false positive rate")
    )
    assert (true.num_rows, false.num_rows) == (400, 400)
    assert (true.estimate, false.estimate) == (pytest.approx(0.15), pytest.approx(0.2))
    (share,) = fairness(seen).parts
    assert (share.num_rows, share.estimate) == (800, pytest.approx(210 / 400 - 200 / 400))


def test_without_a_label_the_worst_label_counts():
    three = [*crowd(100, 100, "z", region="north"), *crowd(100, 50, "z", wrong="y", region="south")]
    seen = seen_crowds(group("north"), group("south"), three, labels=("x", "y", "z"))
    result = fairness(seen, "equal_opportunity", label="")
    assert result.status == "rejected"
    assert "worst: true positive rate of z" in result.rule
    assert result.rule.startswith("shares of rows of a label that are given it at most 0.2 apart")
    assert fairness(seen, "equal_opportunity", label="x").status == "passed"


def test_rules_in_words():
    seen = seen_crowds(group("north"), group("south"))
    assert fairness(seen).rule.startswith("shares of rows that are given the label x at most 0.2 apart between groups of region;")
    assert fairness(seen, "equalised_odds").rule.startswith("true and false positive rates of the label x at most 0.2 apart")


def test_all_pairs_of_groups_are_judged():
    seen = seen_crowds(group("a"), group("b", given=155), group("c", given=100), group("d", deserve=5, given=5, rest=5))
    parts = fairness(seen, "equal_opportunity").parts
    assert [part.name.split(", ")[1] for part in parts] == [
        "region=a against region=c",
        "region=b against region=c",
        "region=a against region=b",
        "region=d",
    ]
    assert [part.judged for part in parts] == [True, True, True, False]


def test_a_group_with_two_rows_behind_a_rate_is_not_judged():
    seen = seen_crowds(group("north"), group("south", deserve=2, given=0))
    result = fairness(seen, "equal_opportunity")
    assert (result.status, result.estimate) == ("undecided", None)
    assert result.note == (
        "no two groups of region with 30 rows behind a true positive rate; "
        "too few rows to judge true positive rate of x, region=south"
    )
    # The other rate of equalised odds can be judged, yet alone it does not pass; but it may reject.
    both = fairness(seen, "equalised_odds")
    assert (both.status, both.rows_to_decide) == ("undecided", None)
    assert both.estimate == 0
    unfair = seen_crowds(group("north"), group("south", deserve=2, given=0, given_wrongly=150))
    assert fairness(unfair, "equalised_odds").status == "rejected"


def test_exactly_the_least_number_of_rows_is_enough():
    seen = seen_crowds(group("north"), group("south", deserve=30, given=0, rest=30))
    assert fairness(seen, "equal_opportunity").status == "rejected"
    assert fairness(seen, "equal_opportunity", min_rows=31).status == "undecided"


def test_one_class_only_and_one_group_only():
    same = seen_crowds(crowd(100, 100, region="north"), crowd(100, 100, region="south"), labels=("x",))
    assert fairness(same).status == "passed"
    odds = fairness(same, "equalised_odds")
    assert odds.status == "undecided"
    assert odds.note == (
        "no two groups of region with 30 rows behind a false positive rate; too few rows to judge "
        "false positive rate of x, region=north, false positive rate of x, region=south"
    )
    assert [part.num_rows for part in odds.parts] == [200, 0, 0]
    alone = fairness(seen_crowds(group("north")))
    assert (alone.status, alone.note) == ("undecided", "no two groups of region with 30 rows behind a share")


def test_no_rows_and_an_unknown_label():
    assert fairness(seen_crowds()).note == "no two groups of region with 30 rows behind a share"
    unknown = fairness(seen_crowds(group("north"), group("south")), label="q")
    assert (unknown.status, unknown.note) == ("undecided", "no row has the label 'q'; there is x, y")
    assert unknown.rule == "shares of rows that are given the label q at most 0.2 apart between groups of region"
    assert unknown.threshold == 0.2
    assert fairness(seen_crowds(labels=()), label="q").note == "no row has the label 'q'; there is none"


def test_intersections_find_what_the_columns_hide():
    crowds = [group(a, given=180 if a == b else 60, plan=b) for a in ("1", "2") for b in ("1", "2")]
    columns = ("region", "plan")
    single = fairness(seen_crowds(*crowds), columns=columns)
    assert single.status == "passed"
    assert "between groups of region or of plan;" in single.rule
    both = fairness(seen_crowds(*crowds), columns=columns, intersections=True)
    assert both.status == "rejected"
    assert "between groups of region and plan; worst: share of x, region=1, plan=1 against region=1, plan=2" in both.rule


def test_rows_without_a_group_are_counted():
    assert fairness(seen_crowds(group("north"), group("south"), crowd(3, 3))).note == "3 rows without region belong to no group"


def test_rows_to_decide_are_test_rows():
    result = fairness(seen_crowds(group("north"), group("south", given=110, given_wrongly=15)))
    assert result.status == "undecided"
    times = result.rows_to_decide / 800
    counts = {
        name: round(value * times) for name, value in {"deserve": 200, "given": 180, "rest": 200, "given_wrongly": 20}.items()
    }
    less = {
        name: round(value * times) for name, value in {"deserve": 200, "given": 110, "rest": 200, "given_wrongly": 15}.items()
    }
    again = fairness(seen_crowds(group("north", **counts), group("south", **less)))
    assert min(abs(again.high - 0.2), abs(again.low - 0.2)) < 0.01
