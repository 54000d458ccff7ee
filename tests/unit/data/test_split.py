"""Rows stay where they are when others are added, and equal inputs stay together."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from softprompt.data.rows import Row
from softprompt.data.split import split_rows
from softprompt.recipe import SplitSpec

SPEC = SplitSpec(validation=0.2, test=0.3, seed=1)


def row(text: str, target: str = "x") -> Row:
    return Row(text, 1, {"text": text}, target, {})


@given(st.lists(st.text(min_size=1), max_size=30), st.lists(st.text(min_size=1), max_size=30))
def test_adding_rows_moves_none(texts, more):
    before = [found.part for found in split_rows([row(text) for text in texts], SPEC)]
    after = [found.part for found in split_rows([row(text) for text in [*texts, *more]], SPEC)]
    assert after[: len(texts)] == before


def test_equal_inputs_land_together_whatever_their_answers_and_spelling():
    for number in range(200):
        twins = [row(f"Hello  {number}", "a"), row(f"hello {number} ", "b")]
        assert len({found.part for found in split_rows(twins, SPEC)}) == 1


def test_shares_are_met_in_expectation():
    counts = Counter(found.part for found in split_rows([row(str(number)) for number in range(20_000)], SPEC))
    assert abs(counts["test"] / 20_000 - 0.3) < 0.015
    assert abs(counts["validation"] / 20_000 - 0.2) < 0.015


def test_another_seed_is_another_division():
    rows = [row(str(number)) for number in range(100)]
    other = SPEC.model_copy(update={"seed": 2})
    assert [found.part for found in split_rows(rows, SPEC)] != [found.part for found in split_rows(rows, other)]
