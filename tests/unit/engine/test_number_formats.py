"""A base in half precision with its float32 prompt learns as the float32 base does: the loss curve stays within 2 %, by norm."""

import copy
import csv
from itertools import islice

import pytest
import torch

from softprompt.base_model import FrozenBase, load_base_model
from softprompt.engine.answers import AnswerTrie
from softprompt.engine.batches import Collator, Example, epochs
from softprompt.engine.concatenate import decoder_start
from softprompt.engine.encoding import TextEncoder, default_verbaliser
from softprompt.engine.head import Head
from softprompt.engine.losses import loss_sum
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.real_tokens import token_values
from softprompt.engine.strategy import choose_strategy
from tests.families import FAMILIES, tiny_base

STEPS = 50
BOUND = 0.02
INTENTS = ["card_arrival", "exchange_rate", "change_pin", "age_limit", "top_up_failed", "verify_my_identity"]


def in_half(base: FrozenBase, dtype: torch.dtype = torch.bfloat16) -> tuple[FrozenBase, FrozenBase]:
    """The base in float32 and in half precision, of the same weights: those that the latter can hold."""
    half = copy.deepcopy(base.model).to(dtype)
    return FrozenBase(copy.deepcopy(half).float(), base.text, base.fingerprint), FrozenBase(half, base.text, base.fingerprint)


def curve(base: FrozenBase, kind: str, values, trie, examples, rate: float, batch_size: int = 16) -> list[float]:
    """Mean loss of each of 50 steps of Adam from the same start over the same batches."""
    strategy, head, collate = choose_strategy(base, kind), Head(base), Collator(trie, decoder_start(base))
    prompt = SoftPrompt(values)
    optimiser = torch.optim.Adam([prompt.values], lr=rate, betas=(0.9, 0.95))
    losses = []
    for rows in islice(epochs([example.num_tokens for example in examples], batch_size, 0), STEPS):
        batch = collate([examples[row] for row in rows])
        loss = loss_sum(head, trie, strategy.hidden(strategy.prefix(prompt), batch), batch) / len(rows)
        optimiser.zero_grad()
        loss.backward()
        assert prompt.values.grad.dtype == prompt.values.dtype == torch.float32
        optimiser.step()
        losses.append(loss.item())
    return losses


def assert_close(full: list[float], half: list[float], bound: float = BOUND) -> None:
    """By norm over the whole curve, every step on its own."""
    assert sum(full[-5:]) < 0.8 * sum(full[:5]), "a prompt that learns nothing would prove nothing"
    assert full != half, "and neither would the same number format twice"
    expected, actual = torch.tensor(full), torch.tensor(half)
    assert (actual - expected).norm() / expected.norm() < bound


@pytest.mark.parametrize("kind", ["shallow", "deep"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "t5"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, BOUND), (torch.float16, BOUND / 4)])
def test_a_tiny_base_in_half_precision_learns_as_in_float32(family, kind, dtype, bound):
    generator = torch.Generator().manual_seed(0)
    answers = [[5], [5, 6], [7, 8], [9]]
    rows = torch.randint(10, 90, (64, 8), generator=generator).tolist()
    right = [0 if row[0] % 5 else 1 + row[1] % 3 for row in rows]  # a tiny random base can learn which answer is frequent
    examples = [Example(row, [*answers[answer], 2], answer) for row, answer in zip(rows, right, strict=True)]
    full, half = in_half(tiny_base(family), dtype)
    values, trie = token_values(full, list(range(10, 18)), kind), AnswerTrie(answers, 2)
    assert_close(*(curve(base, kind, values, trie, examples, 0.1 * full.embedding_rms) for base in (full, half)), bound)


@pytest.mark.parametrize("kind", ["shallow", "deep"])
def test_the_reference_base_on_banking77_in_bfloat16_learns_as_in_float32(reference_base, banking77, kind):
    full = load_base_model(reference_base)
    half = load_base_model(reference_base, dtype="bfloat16")
    encoder = TextEncoder(full.text, "{text}\nIntent:")
    answers = [encoder.answer_ids(default_verbaliser(intent)) for intent in INTENTS]
    with (banking77 / "train.csv").open() as file:
        read = [row for row in csv.DictReader(file) if row["category"] in INTENTS and len(row["text"]) < 80][:256]
    examples = [
        Example(
            encoder.input_ids(row), [*answers[INTENTS.index(row["category"])], encoder.end_token], INTENTS.index(row["category"])
        )
        for row in read
    ]
    assert len(examples) == 256
    values, trie = token_values(full, list(range(300, 320)), kind), AnswerTrie(answers, encoder.end_token)
    rate = 0.1 * full.embedding_rms
    assert_close(*(curve(base, kind, values, trie, examples, rate, 4) for base in (full, half)))


def test_every_family_is_near_its_float32_self():
    """One step each: what bfloat16 rounds away is per cents, never a wrong mask or position."""
    examples = [Example([20, 21, 22, 23], [5, 6, 2], -1), Example([30, 31], [7, 2], -1)]
    for family in FAMILIES:
        for kind in ("shallow", "deep"):
            full, half = in_half(tiny_base(family))
            values = token_values(full, list(range(10, 18)), kind)
            losses = []
            for base in (full, half):
                batch = Collator(None, decoder_start(base))(examples)
                strategy = choose_strategy(base, kind)
                losses.append(
                    loss_sum(Head(base), None, strategy.hidden(strategy.prefix(SoftPrompt(values)), batch), batch).item()
                )
            assert losses[1] == pytest.approx(losses[0], rel=0.05), (family, kind)
