"""Rows by the values of subgroup columns."""

from softprompt.evaluation.gates.subgroups import missing_note, subgroups_of
from tests.unit.evaluation.seen import crowd, seen_crowds

ROWS = seen_crowds(
    crowd(2, 2, region="south", plan="free"), crowd(1, 1, region="north"), crowd(3, 3, plan="paid", region=""), crowd(1, 0)
).rows


def members(subgroups) -> dict[str, list[int]]:
    return {name: rows.nonzero()[0].tolist() for name, rows in subgroups.groups.items()}


def test_each_column_has_groups_of_its_own_in_the_order_of_names():
    region, plan = subgroups_of(ROWS, ("region", "plan"), intersections=False)
    assert list(members(region).items()) == [("region=north", [2]), ("region=south", [0, 1])]
    assert members(plan) == {"plan=free": [0, 1], "plan=paid": [3, 4, 5]}
    assert (region.title, plan.title) == ("region", "plan")


def test_rows_without_a_value_belong_to_no_group_and_are_counted():
    region, plan = subgroups_of(ROWS, ("region", "plan"), intersections=False)
    assert (region.num_missing, plan.num_missing) == (4, 2)
    assert missing_note([region, plan]) == "4 rows without region belong to no group; 2 rows without plan belong to no group"


def test_together_only_combinations_that_occur_are_groups():
    (both,) = subgroups_of(ROWS, ("region", "plan"), intersections=True)
    assert members(both) == {"region=south, plan=free": [0, 1]}
    assert (both.title, both.num_missing) == ("region and plan", 5)


def test_no_rows_and_nothing_missing():
    (region,) = subgroups_of([], ("region",), intersections=False)
    assert (region.groups, region.num_missing, missing_note([region])) == ({}, 0, "")
