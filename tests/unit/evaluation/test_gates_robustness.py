"""The gate on disturbed input: the loss, paired with the clean answers of the same rows."""

import numpy as np
import pytest

from softprompt.evaluation.gates import judge
from softprompt.evaluation.observations import Answers, Disturbed
from softprompt.evaluation.proportions import paired_limits
from softprompt.recipe.gates import RobustnessGate
from tests.unit.evaluation.seen import seen_crowds, seen_disturbed

ROWS = 200


def robustness(seen, perturbation="typos", drop_at_most=0.1, **more):
    return judge(RobustnessGate(kind="robustness", perturbation=perturbation, drop_at_most=drop_at_most, **more), seen)


def right(count, total=ROWS):
    return [number < count for number in range(total)]


@pytest.mark.parametrize(("after", "expected"), [(180, "passed"), (120, "rejected"), (165, "undecided")])
def test_the_loss_is_paired(after, expected):
    result = robustness(seen_disturbed("typos", right(180), right(after)))
    assert result.status == expected
    assert result.estimate == pytest.approx((180 - after) / ROWS)
    low, high = paired_limits(180 - after, 0, ROWS, 0.95)
    assert (result.low, result.high) == (pytest.approx(float(low)), pytest.approx(float(high)))
    assert (result.rule, result.metric, result.threshold, result.note) == (
        "accuracy lost to typing errors at most 0.1",
        "accuracy",
        0.1,
        "",
    )
    assert result.row_ids == tuple(f"row-{number}" for number in range(after, 180))
    assert (result.rows_to_decide is None) == (expected != "undecided")


def test_a_gain_is_no_loss():
    result = robustness(seen_disturbed("typos", right(120), right(180)))
    assert (result.status, result.estimate, result.row_ids) == ("passed", pytest.approx(-0.3), ())


def test_rows_to_decide_a_loss():
    result = robustness(seen_disturbed("typos", right(180), right(165)))
    n = result.rows_to_decide
    again = robustness(seen_disturbed("typos", right(round(0.9 * n), n), right(round(0.825 * n), n)))
    assert again.high == pytest.approx(0.1, abs=0.01)


def test_only_the_rows_that_were_disturbed_count():
    clean = [False] * 100 + [True] * 100
    result = robustness(seen_disturbed("paraphrases", clean, [True] * 50, rows=range(100, 150)), "paraphrases")
    assert (result.status, result.estimate) == ("passed", 0.0)
    assert result.note == "50 of 200 test rows could be disturbed"
    worse = robustness(seen_disturbed("paraphrases", clean, [False, *[True] * 49], rows=range(149, 99, -1)), "paraphrases")
    assert worse.row_ids == ("row-149",)


def test_a_bootstrap_on_few_rows_is_told():
    few = "an interval by bootstrap; how often it errs was not simulated below 50 rows"
    clean = [True] * 49
    assert robustness(seen_disturbed("typos", clean, clean), metric="macro_f1").note == few
    assert robustness(seen_disturbed("typos", clean, clean)).note == ""
    some = robustness(seen_disturbed("typos", [True] * 60, clean, rows=range(49)), metric="macro_f1")
    assert some.note == f"49 of 60 test rows could be disturbed; {few}"


def test_another_metric_of_the_gate():
    result = robustness(seen_disturbed("typos", right(180), right(120)), metric="macro_f1")
    assert (result.metric, result.rule) == ("macro_f1", "macro F1 lost to typing errors at most 0.1")
    assert result.estimate > 0


def test_where_lower_is_better_a_rise_is_a_loss():
    seen = seen_disturbed("typos", right(ROWS), right(ROWS), probabilities=np.array([[0.6, 0.4]] * ROWS))
    seen.systems["soft_prompt"] = Answers(seen.systems["soft_prompt"].outputs, np.array([[0.9, 0.1]] * ROWS))
    result = robustness(seen, metric="ece")
    assert result.estimate == pytest.approx(0.3)
    assert result.status == "rejected"


def test_a_generation_loses_its_first_metric():
    words = ["the fast brown fox", "a slow red hen"] * 30
    seen = seen_crowds([({"target": text}, text) for text in words], task="generation", labels=())
    for outputs, status, ids in ((words, "passed", 0), (["the fast red hen"] * 60, "rejected", 60)):
        disturbed = {"typos": Disturbed(np.arange(60), Answers(tuple(outputs)))}
        result = robustness(type(seen)(**(vars(seen) | {"disturbed": disturbed})))
        assert (result.status, result.metric, result.rule) == (
            status,
            "exact_match",
            "exact match lost to typing errors at most 0.1",
        )
        assert len(result.row_ids) == ids


def test_a_text_that_is_a_little_worse_is_named_though_it_never_matched():
    seen = seen_crowds([({"target": "one two three four"}, "one two three five")] * 40, task="generation", labels=())
    disturbed = {"typos": Disturbed(np.arange(40), Answers(("one two three five",) * 39 + ("one",)))}
    result = robustness(type(seen)(**(vars(seen) | {"disturbed": disturbed})))
    assert (result.estimate, result.row_ids) == (0.0, ("row-39",))


def test_labels_that_differ_in_a_mark_only_are_different_labels():
    seen = seen_crowds([({"target": "A+"}, "A+")] * 40, labels=("A+", "A-"))
    disturbed = {"typos": Disturbed(np.arange(40), Answers(("A+",) * 39 + ("A-",)))}
    assert robustness(type(seen)(**(vars(seen) | {"disturbed": disturbed}))).row_ids == ("row-39",)


def test_nothing_disturbed():
    for seen in (seen_disturbed("typos", right(10), []), seen_disturbed("long", right(10), right(10)), seen_crowds()):
        seen = type(seen)(**(vars(seen) | {"disturbed": {k: v for k, v in seen.disturbed.items() if k == "long"}}))
        result = robustness(seen)
        assert (result.status, result.estimate, result.note) == ("undecided", None, "no row was disturbed")
        assert (result.rule, result.threshold) == ("accuracy lost to typing errors at most 0.1", 0.1)
    assert robustness(seen_disturbed("typos", right(10), [], rows=[])).note == "no row was disturbed"


def test_a_metric_that_the_answers_do_not_suffice_for():
    result = robustness(seen_disturbed("typos", right(180), right(180)), metric="brier")
    assert (result.status, result.note) == ("undecided", "the answers do not suffice to measure Brier score")
    assert result.rule == "Brier score lost to typing errors at most 0.1"


def test_empty_input_asks_for_a_valid_answer_only():
    """However wrong: an empty input has no right answer."""
    seen = seen_disturbed("empty", right(200), [False], rows=[0], probabilities=np.array([[0.2, 0.8]]))
    result = robustness(seen, "empty", drop_at_most=0.0)
    assert (result.status, result.estimate, result.low, result.high, result.threshold) == ("passed", 0.0, 0.0, 0.0, 0.0)
    assert (result.rule, result.note) == (
        "no disturbed input (empty input) without a valid answer",
        "0 of 1 inputs got none",
    )


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_empty_input_with_broken_probabilities(broken):
    probabilities = np.array([[0.2, 0.8], [broken, 0.1]])
    result = robustness(seen_disturbed("empty", right(9), right(2, 2), rows=[3, 5], probabilities=probabilities), "empty", 1.0)
    assert (result.status, result.estimate, result.row_ids) == ("rejected", 0.5, ("row-5",))
    assert result.note == "1 of 2 inputs got none"


def test_empty_input_with_no_label_or_no_text():
    strange = seen_disturbed("empty", right(9), [], rows=[0], outputs=("q",))
    assert robustness(strange, "empty").status == "rejected"
    for text, status in ((" \n", "rejected"), ("Please say more.", "passed")):
        seen = seen_crowds([({"target": "x"}, "x")], task="generation", labels=())
        disturbed = {"empty": Disturbed(np.array([0]), Answers((text,)))}
        assert robustness(type(seen)(**(vars(seen) | {"disturbed": disturbed})), "empty").status == status


def test_broken_probabilities_reject_under_any_disturbance():
    probabilities = np.array([[1.0, 0.0]] * (ROWS - 1) + [[np.nan, np.nan]])
    result = robustness(seen_disturbed("typos", right(180), right(180), probabilities=probabilities))
    assert (result.status, result.estimate, result.row_ids) == ("rejected", pytest.approx(1 / ROWS), ("row-199",))
    assert result.rule == "no disturbed input (typing errors) without a valid answer"
