"""Which prompt a request means: shares of a canary hold, callers stay with theirs, revoked ones are gone."""

import math
from collections import Counter

import pytest

from softprompt.release.statement import Share
from softprompt.serving.routing import choose


def shares(*weights: int) -> list[Share]:
    return [Share(prompt=f"{number:064x}", weight=weight) for number, weight in enumerate(weights)]


@pytest.mark.parametrize("weights", [(1, 1), (9, 1), (1, 2, 3, 4), (10_000, 1)])
def test_shares_are_as_the_weights_say(weights):
    draws = 4000
    found = Counter(choose(shares(*weights), f"user {number}") for number in range(draws))
    for share in shares(*weights):
        p = share.weight / sum(weights)
        assert abs(found[share.prompt] / draws - p) < 4 * math.sqrt(p * (1 - p) / draws) + 1e-3


def test_the_same_caller_stays_and_only_those_move_who_have_to():
    before, after = shares(9, 1), shares(5, 5)
    moved = Counter()
    for number in range(4000):
        old, new = choose(before, f"user {number}"), choose(after, f"user {number}")
        assert old == choose(before, f"user {number}")
        moved[old[-1], new[-1]] += 1
    assert moved["1", "0"] == 0, "nobody goes back while the canary grows"
    assert moved["0", "1"] == pytest.approx(1600, abs=130)


def test_without_a_caller_it_is_drawn_each_time():
    found = Counter(choose(shares(1, 1)) for _ in range(400))
    assert min(found.values()) > 130
