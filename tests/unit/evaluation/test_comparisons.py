"""Exploratory comparisons: what is compared, which way the sign goes, and how the p-values are corrected."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import fisher_exact
from statsmodels.stats.multitest import multipletests

from softprompt.data.rows import Row
from softprompt.evaluation.comparisons import explore
from softprompt.evaluation.observations import Answers, Earlier, Observations
from softprompt.recipe.evaluation import EvaluationSpec
from tests.unit.evaluation.seen import seen_crowds, seen_shares

SHARES = {"soft_prompt": 0.8, "bare_base": 0.3, "instruction": 0.79, "champion": 0.85}


def test_every_system_is_compared_on_the_first_two_metrics():
    found = explore(seen_shares(SHARES), 0.95)
    assert [(each.baseline, each.metric) for each in found] == [
        (system, metric) for system in ("bare_base", "instruction", "champion") for metric in ("accuracy", "macro_f1")
    ]
    assert all(each.low <= each.difference <= each.high for each in found)


def test_what_is_noise_and_what_is_not():
    found = {each.baseline: each for each in explore(seen_shares(SHARES), 0.95) if each.metric == "accuracy"}
    assert found["bare_base"].difference == pytest.approx(0.5)
    assert not found["bare_base"].noise
    assert found["instruction"].noise
    # 10 of 200 rows, all for the champion: mid-p 2 * (1/2)^10 - (1/2)^10.
    assert found["champion"].difference == pytest.approx(-0.05)
    assert found["champion"].p_value == pytest.approx(2**-10)


def test_all_p_values_are_corrected_together():
    found = explore(seen_shares(SHARES), 0.95)
    expected = multipletests([each.p_value for each in found], method="holm")[1]
    assert [each.p_holm for each in found] == pytest.approx(expected.tolist())


def test_rows_that_a_champion_was_trained_on_are_left_out():
    seen = replace(seen_shares({"soft_prompt": 1.0, "champion": 0.5}), comparable={"champion": np.arange(200) >= 60})
    found = explore(seen, 0.95)
    assert {each.num_rows for each in found} == {140}
    assert found[0].difference == pytest.approx(100 / 140)
    assert explore(replace(seen, comparable={"champion": np.zeros(200, dtype=bool)}), 0.95) == ()


def generation(mine: list[str], theirs: list[str], nats: tuple[float, float]) -> Observations:
    rows = [Row(f"row-{n}", n + 1, {"text": "x"}, "the right answer", part="test") for n in range(len(mine))]
    systems = {
        name: Answers(tuple(said), target_nats=np.full(len(said), nat), target_tokens=np.ones(len(said)))
        for name, said, nat in (("soft_prompt", mine, nats[0]), ("bare_base", theirs, nats[1]))
    }
    return Observations("generation", rows, (), systems, EvaluationSpec(bootstrap_samples=400))


def test_a_generation_is_compared_by_exact_match_and_rouge():
    right, near = "the right answer", "the wrong answer"
    found = explore(generation([right] * 60, [right] * 20 + [near] * 40, (1.0, 2.0)), 0.95)
    assert [(each.metric, round(each.difference, 3)) for each in found] == [
        ("exact_match", round(2 / 3, 3)),
        ("rouge_l", round(2 / 9, 3)),
    ]
    assert not any(each.noise for each in found)


def test_positive_means_better_also_where_lower_numbers_are(monkeypatch):
    seen = generation(["a"] * 30, ["a"] * 30, (1.0, 2.0))
    monkeypatch.setattr("softprompt.evaluation.comparisons._metrics", lambda seen: ("perplexity",))
    (found,) = explore(seen, 0.95)
    assert found.difference == pytest.approx(np.e**2 - np.e)
    assert found.low > 0


def with_earlier(now: float, then: float, rows_now: int, rows_then: int) -> Observations:
    seen, old = seen_shares({"soft_prompt": now}, rows_now, 400), seen_shares({"soft_prompt": then}, rows_then)
    return replace(seen, earlier=Earlier(old.rows, old.systems["soft_prompt"]))


@pytest.mark.parametrize(("now", "then", "noise"), [(0.9, 0.6, False), (0.6, 0.9, False), (0.9, 0.88, True)])
def test_the_same_prompt_on_earlier_rows_is_compared_unpaired(now, then, noise):
    found = explore(with_earlier(now, then, 200, 150), 0.95)
    assert [(each.baseline, each.metric) for each in found] == [("earlier", "accuracy"), ("earlier", "macro_f1")]
    assert found[0].difference == pytest.approx(now - then)
    expected = fisher_exact([[now * 200, 200 - now * 200], [then * 150, 150 - then * 150]]).pvalue
    assert found[0].p_value == pytest.approx(expected)
    assert [each.noise for each in found] == [noise, noise]


def test_equally_many_rows_then_and_now_are_still_independent():
    """Drawn alike they would move together, and a difference of nothing would be sure of itself."""
    said = [({"target": "x"}, "x" if n % 3 else "y") for n in range(150)] + [
        ({"target": "y"}, "y" if n % 3 else "x") for n in range(150)
    ]
    seen = seen_crowds(said)
    seen = replace(seen, earlier=Earlier(seen.rows, seen.systems["soft_prompt"]))
    macro_f1 = explore(seen, 0.95)[1]
    assert macro_f1.p_value > 0.9
    # Two independent shares of 2/3 among 300: 1.96 * sqrt(2 * 2/9 / 300).
    assert macro_f1.high - macro_f1.low == pytest.approx(2 * 1.96 * (2 * 2 / 9 / 300) ** 0.5, rel=0.15)


def test_nothing_to_compare_with():
    assert explore(seen_shares({"soft_prompt": 0.5}), 0.95) == ()
