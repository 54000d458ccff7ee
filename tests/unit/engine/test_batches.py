"""Batches of any composition give the same result; the order of rows follows from the seed alone."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softprompt.engine.answers import AnswerTrie
from softprompt.engine.batches import Batch, Collator, Example, epochs
from softprompt.engine.concatenate import decoder_start
from softprompt.engine.head import Head
from softprompt.engine.losses import loss_sum
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.strategy import check_length
from softprompt.errors import UnsupportedBaseModel
from tests.families import FAMILIES, V, strategies_for, tiny_base
from tests.stock import Stock, random_prompt

P = 12
"""More than the windows of 8, so that they bite inside the prompt."""
CONTEXT = 64
ANSWERS = [[5], [5, 6], [7, 8, 9]]


def examples(base, trie: AnswerTrie | None) -> list[Example]:
    """Rows of one token, of like and unlike length, and one that fills the context to its last place."""
    generator = torch.Generator().manual_seed(0)
    fed = 0 if base.is_encoder_decoder or trie else 3  # of the last answer; its one decision under the trie is its first token
    lengths = [1, 3, 3, 9, 20, CONTEXT - P - fed]
    return [
        Example(torch.randint(3, V, (n,), generator=generator).tolist(), [*ANSWERS[i % 3], 2], i % 3 if trie else -1)
        for i, n in enumerate(lengths)
    ]


def gradient(strategy, head, trie, values, batches, extra_padding=0):
    """Sum of the loss over all batches, and its gradient accumulated over them."""
    prompt = SoftPrompt(values)
    collator = Collator(trie, decoder_start(strategy.base))
    total = 0.0
    for rows in batches:
        batch = widened(collator(rows), extra_padding)
        loss = loss_sum(head, trie, strategy.hidden(strategy.prefix(prompt), batch), batch)
        loss.backward()
        total += loss.item()
    return total, prompt.values.grad


def widened(batch: Batch, columns: int) -> Batch:
    """The same batch with more padding; its tokens are of no account."""
    ids, mask = (
        torch.nn.functional.pad(part, (0, columns), value=fill) for part, fill in ((batch.input_ids, 7), (batch.input_mask, 0))
    )
    return replace(batch, input_ids=ids, input_mask=mask)


def stock_gradient(base, values, rows, trie):
    """The same from stock PEFT, row by row in float64; under a trie the softmax runs over the answers' next tokens."""
    stock, sequences = Stock(base, values), [[*answer, 2] for answer in ANSWERS]
    total = 0.0
    for row in rows:
        onwards = [sorted({s[i] for s in sequences if s[:i] == row.answer_ids[:i]}) for i in range(len(row.answer_ids))]
        places = [i for i, tokens in enumerate(onwards) if len(tokens) > 1] if trie else range(len(row.answer_ids))
        logits = stock.answer_logits(row.input_ids, row.answer_ids[: max(places)])
        for i in places:
            among = onwards[i] if trie else slice(None)
            total = total + torch.logsumexp(logits[i, among], 0) - logits[i, row.answer_ids[i]]
    total.backward()
    return total.item(), stock.gradient


@pytest.mark.parametrize("loss", ["answers", "likelihood"])
@pytest.mark.parametrize("kind", ["shallow", "deep"])
@pytest.mark.parametrize("family", FAMILIES)
def test_any_composition_of_batches_gives_the_same_loss_and_gradient(family, kind, loss):
    base = tiny_base(family)
    trie = AnswerTrie(ANSWERS, 2) if loss == "answers" else None
    rows, head, values = examples(base, trie), Head(base), random_prompt(base, kind, P)
    truth_loss, truth = stock_gradient(base, values, rows, trie)
    assert truth.norm() > 1e-3, "a prompt without influence would prove nothing"
    compositions = {
        "all at once": ([rows], 0),
        "another order": ([rows[::-1]], 0),
        "two buckets": ([rows[:2], rows[2:]], 0),
        "other buckets": ([rows[3:4], rows[:3] + rows[4:]], 0),
        "one at a time": ([[row] for row in rows], 0),
        "far more padding": ([rows[:3], rows[3:5]], 9),
    }
    for strategy in strategies_for(base, kind):
        expected_loss, expected = gradient(strategy, head, trie, values, [[row] for row in rows])
        assert abs(expected_loss - truth_loss) / truth_loss < 1e-5
        assert (expected - truth).norm() / truth.norm() < 1e-4, "float32 against float64"
        for name, (batches, extra) in compositions.items():
            if extra:
                expected_loss, expected = gradient(strategy, head, trie, values, [[row] for row in rows[:5]])
            total, grad = gradient(strategy, head, trie, values, batches, extra)
            assert abs(total - expected_loss) / expected_loss < 1e-5, name
            assert (grad - expected).norm() / expected.norm() < 1e-5, name


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
