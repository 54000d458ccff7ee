"""Gates that facts decide: must-pass rows, the prompt's health, its cost, leakage."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from softprompt.evaluation.gate_report import explained
from softprompt.evaluation.gates import judge
from softprompt.evaluation.gates.cost import median_interval
from softprompt.recipe.gates import CostGate, LeakageGate, MustPassGate, PromptHealthGate
from tests.unit.evaluation.seen import crowd, facts, seen_crowds

PLAIN = crowd(50, 40)


def numbers(result):
    return result.estimate, result.low, result.high, result.threshold, result.status, result.rows_to_decide


# Rows that must pass


def must_pass(*crowds, **more):
    return judge(MustPassGate(kind="must_pass"), seen_crowds(*crowds, **more))


def test_all_rows_that_must_pass_do_whatever_the_others():
    result = must_pass(PLAIN, crowd(4, 4, must_pass=True))
    assert numbers(result) == (1.0, 1.0, 1.0, 1.0, "passed", None)
    assert (result.rule, result.note, result.row_ids) == ("every row that must pass is answered rightly", "4 of 4", ())


def test_one_that_does_not_is_named():
    result = must_pass(PLAIN, crowd(4, 3, must_pass=True))
    assert numbers(result) == (0.75, 0.75, 0.75, 1.0, "rejected", None)
    assert (result.note, result.row_ids) == ("3 of 4", ("row-53",))


def test_without_such_rows_it_is_undecided():
    for crowds in ((PLAIN,), ()):
        result = must_pass(*crowds)
        assert numbers(result) == (None, None, None, 1.0, "undecided", None)
        assert (result.note, result.rule) == ("no test row must pass", "every row that must pass is answered rightly")


def test_a_text_is_right_but_for_white_space_around_it():
    said = [({"target": "a text", "must_pass": True}, " a text\n"), ({"target": "a text", "must_pass": True}, "A text")]
    assert must_pass(said, task="generation", labels=()).row_ids == ("row-1",)


# The prompt's health


def health(found, **given):
    return judge(
        PromptHealthGate(**({"kind": "prompt_health", "norm_at_most": 10.0, "moved_at_least": 0.01} | given)),
        seen_crowds(facts=found),
    )


NORM_RULE = "largest norm of a prompt vector at most 10 times the largest of a real token"
MOVED_RULE = "distance to the initialiser at least 0.01 of its norm"


def test_a_healthy_prompt():
    result = health(facts())
    assert numbers(result) == (2.0, 2.0, 2.0, 10.0, "passed", None)
    assert result.rule == f"every number of the prompt is finite; {MOVED_RULE}; {NORM_RULE}"
    assert [(part.name, part.estimate, part.low, part.high, part.num_rows) for part in result.parts] == [
        ("largest norm", 2.0, 2.0, 2.0, 0),
        ("moved", 0.4, 0.4, 0.4, 0),
    ]


@pytest.mark.parametrize(
    ("given", "rule", "value", "threshold"),
    [
        ({"finite": False}, "every number of the prompt is finite", 0.0, 1.0),
        ({"norms": [1.0, math.nan]}, "every number of the prompt is finite", 0.0, 1.0),
        ({"norms": [1.0, math.inf]}, "every number of the prompt is finite", 0.0, 1.0),
        ({"norms": [1.0, 10.5]}, NORM_RULE, 10.5, 10.0),
        ({"norms": [10.5], "moved": None}, NORM_RULE, 10.5, 10.0),
        ({"moved": 0.009}, MOVED_RULE, 0.009, 0.01),
    ],
)
def test_a_sick_prompt(given, rule, value, threshold):
    result = health(facts(**given))
    assert numbers(result) == (value, value, value, threshold, "rejected", None)
    assert result.rule == rule
    assert [part.name for part in result.parts] == (
        [] if "finite" in rule else ["largest norm"] if "moved" in given and given["moved"] is None else ["largest norm", "moved"]
    )


def test_exactly_the_limits_are_healthy():
    result = health(facts(norms=[10.0], moved=0.01))
    assert (result.status, result.rule) == ("passed", f"every number of the prompt is finite; {MOVED_RULE}; {NORM_RULE}")


def test_a_prompt_whose_numbers_nobody_measured():
    for found in (None, facts(norms=[])):
        result = health(found)
        assert numbers(result) == (None, None, None, 10.0, "undecided", None)
        assert (result.rule, result.note) == (NORM_RULE, "the prompt's numbers were not measured")


def test_a_training_that_does_not_say_how_far_it_moved():
    result = health(facts(moved=None))
    assert numbers(result) == (None, None, None, 0.01, "undecided", None)
    assert (result.rule, result.note) == (MOVED_RULE, "the training did not say how far the prompt moved")
    assert [part.name for part in result.parts] == ["largest norm"]
    assert health(facts(moved=None), moved_at_least=0.0).status == "passed"


# Its cost


def cost(found, **limit):
    return judge(CostGate(kind="cost", **limit), seen_crowds(facts=found))


@pytest.mark.parametrize(
    ("limit", "value", "status", "rule"),
    [
        ({"tokens_at_most": 16}, 16, "passed", "tokens of context at most 16"),
        ({"tokens_at_most": 15}, 16, "rejected", "tokens of context at most 15"),
        ({"bytes_at_most": 5000}, 5000, "passed", "bytes of the prompt file at most 5,000"),
        ({"bytes_at_most": 4999}, 5000, "rejected", "bytes of the prompt file at most 4,999"),
    ],
)
def test_tokens_and_bytes_are_facts(limit, value, status, rule):
    result = cost(facts(), **limit)
    assert numbers(result) == (value, value, value, *limit.values(), status, None)
    assert result.rule == rule


@pytest.mark.parametrize("limit", [{"tokens_at_most": 16}, {"bytes_at_most": 16}])
def test_a_cost_that_nobody_measured(limit):
    result = cost(None, **limit)
    assert (numbers(result), result.note) == ((None, None, None, 16, "undecided", None), "the prompt's cost was not measured")
    assert result.rule == ("tokens of context at most 16" if "tokens_at_most" in limit else "bytes of the prompt file at most 16")


TIMES = [float(time) for time in range(1, 31)]


@pytest.mark.parametrize(("limit", "status"), [(21.0, "passed"), (20.9, "undecided"), (10.0, "undecided"), (9.9, "rejected")])
def test_latency_is_a_median_with_an_interval(limit, status):
    # Order statistics 10 and 21 of 30: the sign test's interval in the tables (Conover 1999, table A3).
    result = cost(facts(latency_ms=TIMES), latency_ms_at_most=limit)
    assert numbers(result) == (15.5, 10.0, 21.0, limit, status, None)
    assert result.rule == f"milliseconds that the prompt adds to a request, median, at most {limit:g}"
    assert result.note == "30 repetitions"


@pytest.mark.parametrize("num_times", [6, 11, 30, 101])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_medians_interval_keeps_its_level_exactly(num_times, confidence):
    """P(median between two order statistics) is a binomial sum, at least the level; one statistic nearer it is not."""
    found = median_interval(np.arange(1, num_times + 1, dtype=float), confidence)
    low, high = round(found.low), round(found.high)
    tail = (1 - confidence) / 2
    assert binom.cdf(low - 1, num_times, 0.5) <= tail < binom.cdf(low, num_times, 0.5)
    assert 1 - binom.cdf(high - 1, num_times, 0.5) <= tail < 1 - binom.cdf(high - 2, num_times, 0.5)
    assert found.estimate == (num_times + 1) / 2


def test_latency_that_nobody_measured():
    for found in (None, facts()):
        result = cost(found, latency_ms_at_most=5.0)
        assert numbers(result) == (None, None, None, 5.0, "undecided", None)
        assert (result.note, result.rule) == (
            "latency was not measured",
            "milliseconds that the prompt adds to a request, median, at most 5",
        )


def test_too_few_repetitions_have_no_interval():
    result = cost(facts(latency_ms=TIMES[:5]), latency_ms_at_most=5.0)
    assert numbers(result) == (None, None, None, 5.0, "undecided", None)
    assert result.note == "5 repetitions are too few for an interval at 0.95"
    assert result.rule == "milliseconds that the prompt adds to a request, median, at most 5"


# Leakage


def leakage(leaked, rows_at_most=0, crowds=(PLAIN,)):
    return judge(LeakageGate(kind="leakage", rows_at_most=rows_at_most), seen_crowds(*crowds, leaked=leaked))


@pytest.mark.parametrize(
    ("leaked", "rows_at_most", "status"),
    [((), 0, "passed"), ((3, 7), 2, "passed"), ((3, 7), 1, "rejected"), ((3,), 0, "rejected"), ((3, 3), 1, "passed")],
)
def test_leaked_rows_are_counted_and_named(leaked, rows_at_most, status):
    result, count = leakage(leaked, rows_at_most), len(set(leaked))
    assert numbers(result) == (count, count, count, rows_at_most, status, None)
    assert result.row_ids == tuple(f"row-{row}" for row in sorted(set(leaked)))
    assert (result.rule, result.note) == (f"test rows that training saw at most {rows_at_most}", "of 50 test rows")


def test_leakage_without_rows():
    result = leakage((), crowds=())
    assert (numbers(result), result.note) == ((None, None, None, 0.0, "undecided", None), "there are no test rows")
    assert result.rule == "test rows that training saw at most 0"


# In words


def test_a_fact_is_told_without_an_interval_and_nothing_as_nothing():
    assert explained(cost(facts(num_bytes=1234567), bytes_at_most=1_000_000)) == (
        "bytes of the prompt file at most 1,000,000, measured 1,234,567"
    )
    assert explained(must_pass(crowd(3, 2, must_pass=True))) == (
        "every row that must pass is answered rightly, measured 0.667 (2 of 3)"
    )
    assert explained(must_pass(PLAIN)) == (
        "every row that must pass is answered rightly, measured nothing (no test row must pass)"
    )
