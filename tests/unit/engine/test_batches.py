"""Batches of any composition give the same result; the order of rows follows from the seed alone."""

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softprompt.engine.answers import AnswerTrie
from softprompt.engine.batches import Collator, Example, epochs
from softprompt.engine.concatenate import Concatenate, decoder_start
from softprompt.engine.head import Head
from softprompt.engine.losses import loss_sum
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.strategy import check_length, choose_strategy
from softprompt.errors import UnsupportedBaseModel
from tests.families import FAMILIES, V, tiny_base

P = 6


def examples(trie: AnswerTrie | None) -> list[Example]:
    generator = torch.Generator().manual_seed(0)
    answers = [[5], [5, 6], [7, 8, 9]]
    lengths = [1, 3, 3, 9, 20, 50]
    return [
        Example(torch.randint(3, V, (n,), generator=generator).tolist(), [*answers[i % 3], 2], i % 3 if trie else -1)
        for i, n in enumerate(lengths)
    ]


def gradient(strategy, head, trie, values, batches):
    prompt = SoftPrompt(values)
    collator = Collator(trie, decoder_start(strategy.base))
    total = 0.0
    for rows in batches:
        batch = collator(rows)
        loss = loss_sum(head, trie, strategy.hidden(strategy.prefix(prompt), batch), batch)
        loss.backward()
        total += loss.item()
    return total, prompt.values.grad


@pytest.mark.parametrize("loss", ["answers", "likelihood"])
@pytest.mark.parametrize("family", FAMILIES)
def test_any_composition_of_batches_gives_the_same_loss_and_gradient(family, loss):
    base = tiny_base(family)
    trie = AnswerTrie([[5], [5, 6], [7, 8, 9]], 2) if loss == "answers" else None
    rows, head = examples(trie), Head(base)
    values = torch.randn(P, base.hidden_size, generator=torch.Generator().manual_seed(1)) * 0.5
    expected_loss, expected = gradient(Concatenate(base), head, trie, values, [[row] for row in rows])
    assert expected.norm() > 1e-4
    for strategy in (choose_strategy(base, "shallow"), Concatenate(base)):
        for batches in ([rows], [rows[::-1]], [rows[:2], rows[2:]], [rows[3:4], rows[:3] + rows[4:]], [[row] for row in rows]):
            total, grad = gradient(strategy, head, trie, values, batches)
            assert abs(total - expected_loss) / expected_loss < 1e-5
            assert (grad - expected).norm() / expected.norm() < 1e-5


def test_a_row_as_long_as_the_context_is_taken_and_a_longer_one_refused():
    base = tiny_base("gpt2")
    check_length(base, 14, 50)
    with pytest.raises(UnsupportedBaseModel, match="longer than the base model's context") as caught:
        check_length(base, 14, 51)
    assert "14 prompt tokens + 51 text tokens = 65" in str(caught.value)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=70), st.integers(1, 16), st.integers(0, 3))
def test_an_epoch_has_every_row_once_and_follows_from_the_seed(lengths, batch_size, seed):
    batches_an_epoch = len(list(range(0, len(lengths), batch_size)))
    first = list(islice(epochs(lengths, batch_size, seed), batches_an_epoch))
    assert sorted(row for batch in first for row in batch) == list(range(len(lengths)))
    assert max(map(len, first)) <= batch_size
    assert first == list(islice(epochs(lengths, batch_size, seed), batches_an_epoch))


def test_another_seed_or_epoch_is_another_order():
    lengths = list(range(1, 101))
    assert next(epochs(lengths, 10, 0)) != next(epochs(lengths, 10, 1))
    order = epochs(lengths, 10, 0)
    assert [next(order) for _ in range(10)] != [next(order) for _ in range(10)]


def test_rows_of_like_length_share_a_batch():
    lengths = [10 if row % 2 else 100 for row in range(320)]
    spread = [
        max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in islice(epochs(lengths, 32, 0), 10)
    ]
    assert sum(width == 0 for width in spread) >= 8
