"""Rows of many prompts in one batch say what stock PEFT says with each prompt alone.

Stock PEFT reads each row by itself, in float64, with the answer that the engine gave: a token that is the most likely one behind
all tokens before it is the one that greedy decoding would have chosen, so one forward compares a whole answer.
"""

import random

import pytest
import torch

from softprompt.serving.groups import GroupBatch
from softprompt.serving.scheduler import BatchEngine
from softprompt.serving.slots import SlotBatch
from tests.families import CAUSAL, ENCODER_DECODER, V, tiny_base
from tests.serving_jobs import NEVER, warm, write
from tests.stock import Stock, random_prompt

TOKENS = 64
MAX_ROWS = 5


def base_of(family, dtype=torch.float32):
    """A tiny base with a head of its own: a random one that shares it with the embedding repeats itself, whatever the prompt."""
    base = tiny_base(family, dtype, context_tokens=160)
    head = base.model.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(2)).to(dtype))
    base.model.requires_grad_(False)
    return base


def prompts_of(base, kinds):
    """Prompts of different lengths, and the bare base."""
    values = [random_prompt(base, kind, length, seed) for seed, (kind, length) in enumerate(kinds, 1)]
    return [None, *values]


def texts_for(base, values, count):
    """(prompt, text) in turn, texts for which at least half of the tokens are others than the bare base's.

    That is asserted later. Random models often run into the same few tokens whatever is before them, so texts are drawn until
    there are enough.
    """
    warmed = [warm(base, value) for value in values]
    drawn = iter(texts(base, 6 * count))
    found = []
    with BatchEngine(base, end_token=NEVER) as engine:
        while len(found) < count:
            which, ids = len(found) % len(values), next(drawn)
            bare, ours = write(engine, None, ids, TOKENS), write(engine, warmed[which], ids, TOKENS)
            assert bare.wait() == ours.wait() == "length"
            if which == 0 or sum(a != b for a, b in zip(bare.ids, ours.ids, strict=True)) >= TOKENS / 2:
                found.append((which, ids))
    return found


def texts(base, count):
    """Ragged texts; short ones where a window of 8 would hide the prompt from the end of the text, and so from the answer."""
    longest = 6 if getattr(base.model.config, "sliding_window", None) else 20
    rng = random.Random(0)
    return [[rng.randrange(3, V) for _ in range(rng.randint(2, longest))] for _ in range(count)]


def mixed(base, values, *, count=12):
    """Texts under all prompts in one batch: more than fit at once, some much shorter, one cancelled, one that comes late."""
    warmed = [warm(base, value, name) for value, name in zip(values, "abcdefg", strict=False)]
    chosen, asked, late = texts_for(base, values, count), [], []
    with BatchEngine(base, end_token=NEVER, max_rows=MAX_ROWS) as engine:

        def come_late(num_tokens):
            if num_tokens == 7:
                late.append(write(engine, warmed[1], [5, 6, 7, 8]))
            if num_tokens == 11:
                passing[0].ticket.cancel()

        passing = []
        for number, (which, ids) in enumerate(chosen):
            asked.append((which, ids, write(engine, warmed[which], ids, TOKENS, on_token=None if number else come_late)))
            passing.append(write(engine, warmed[(which + 1) % len(values)], ids[::-1], 2 + 5 * (number % 4)))
        reasons = [ear.wait() for _, _, ear in asked]
        assert set(reasons) == {"length"}
        assert passing[0].wait() in ("cancelled", "length")
        asked.append((1, [5, 6, 7, 8], late[0]))
        late[0].wait()
        assert type(engine._batch) is (GroupBatch if base.is_encoder_decoder else SlotBatch)
    return asked


def assert_as_stock(base, values, asked):
    stock = [Stock(base, value) for value in values]
    answers = {}
    for which, ids, ear in asked:
        assert len(ear.ids) == TOKENS
        with torch.no_grad():
            logits = stock[which].answer_logits(ids, ear.ids[:-1])
        assert ear.ids == logits.argmax(-1).tolist(), f"prompt {which}, text {ids}"
        expected = logits.log_softmax(-1).gather(1, torch.tensor(ear.ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor([t.logprob for t in ear.tokens]), expected.float(), rtol=1e-3, atol=1e-3)
        answers[which, tuple(ids)] = ear.ids
    return answers


def assert_prompts_matter(base, values, answers):
    """At least half of the tokens are others than the bare base's."""
    for which in range(1, len(values)):
        changed = total = 0
        with BatchEngine(base, end_token=NEVER) as engine:
            bare = {ids: write(engine, None, ids) for prompt, ids in answers if prompt == which}
            for ids, ear in bare.items():
                ear.wait()
                changed += sum(a != b for a, b in zip(ear.ids, answers[which, ids], strict=True))
                total += TOKENS
        assert changed >= total / 2, f"prompt {which} changes {changed} of {total} tokens: the test would prove nothing"


@pytest.mark.parametrize("family", CAUSAL)
def test_a_mixed_batch_says_what_stock_peft_says_one_row_at_a_time(family):
    base = base_of(family)
    values = prompts_of(base, [("shallow", 5), ("deep", 9), ("shallow", 14)])
    answers = assert_as_stock(base, values, mixed(base, values))
    assert_prompts_matter(base, values, answers)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_number_formats(dtype):
    """float64 has no near ties, so there the whole batch must be the same to the token."""
    base = base_of("gemma3" if dtype == torch.float64 else "llama", dtype)
    values = prompts_of(base, [("shallow", 5), ("deep", 9)])
    warmed = [warm(base, value, name) for value, name in zip(values, "abc", strict=True)]
    asked = [(warmed[number % 3], ids) for number, ids in enumerate(texts(base, 9))]
    with BatchEngine(base, end_token=NEVER) as engine:
        together = [write(engine, prompt, ids, 24) for prompt, ids in asked]
        assert {ear.wait() for ear in together} == {"length"}
        alone = []
        for prompt, ids in asked:
            alone.append(write(engine, prompt, ids, 24))
            alone[-1].wait()
    same = sum(one.ids == other.ids for one, other in zip(together, alone, strict=True))
    assert same == len(asked) if dtype == torch.float64 else same >= len(asked) / 2, "bfloat16 has near ties everywhere"


@pytest.mark.parametrize("kind", ["shallow", "deep"])
@pytest.mark.parametrize("family", ENCODER_DECODER)
def test_encoder_decoder_models_say_the_same_by_the_simple_path(family, kind):
    base = base_of(family)
    values = prompts_of(base, [(kind, 5), (kind, 9)])
    answers = assert_as_stock(base, values, mixed(base, values, count=6))
    assert_prompts_matter(base, values, answers)


def test_a_base_whose_rows_cannot_share_slots_is_written_in_groups(monkeypatch):
    """A base of an unknown kind: here one whose layers look at no mask of ours."""
    base = base_of("llama")
    values = prompts_of(base, [("shallow", 5), ("deep", 9)])
    inner = base.model.base_model
    real = inner.forward

    def deaf(*args, **kwargs):
        if kwargs.get("attention_mask") is not None and kwargs["attention_mask"].ndim == 4:
            kwargs["attention_mask"] = None
        return real(*args, **kwargs)

    monkeypatch.setattr(inner, "forward", deaf)
    warmed = [warm(base, value, name) for value, name in zip(values, "abc", strict=True)]
    with BatchEngine(base, end_token=NEVER) as engine:
        assert isinstance(engine._batch, GroupBatch)
        asked = [(n % 3, ids, write(engine, warmed[n % 3], ids)) for n, ids in enumerate(texts(base, 6))]
        for _, _, ear in asked:
            ear.wait()
    monkeypatch.undo()
    assert_as_stock(base, values, asked)


def swaps(count):
    """Swap to a new prompt again and again under load, each time compared with a node that starts with it."""
    base = base_of("llama")
    ids = [7, 8, 9, 10]
    old = warm(base, random_prompt(base, "deep", 5, 0))
    with BatchEngine(base, end_token=NEVER, max_rows=4) as engine:
        for number in range(count):
            kind, length = ("shallow", "deep")[number % 2], 3 + number % 5
            new = warm(base, random_prompt(base, kind, length, 10 + number), "b")
            under_old = [write(engine, old, ids, 6), write(engine, old, ids[::-1], 9)]
            swapped = write(engine, new, ids, 8)
            with BatchEngine(base, end_token=NEVER) as cold_engine:
                cold = write(cold_engine, warm(base, random_prompt(base, kind, length, 10 + number)), ids, 8)
                assert cold.wait() == swapped.wait() == "length"
            assert swapped.ids == cold.ids, f"swap {number}"
            assert [ear.wait() for ear in under_old] == ["length"] * 2, "rows of the old prompt go on to their ends"
            assert number == 0 or new.digest != old.digest or under_old[0].ids != swapped.ids
            old = new


def test_after_a_swap_a_node_says_what_one_says_that_starts_with_the_new_prompt():
    swaps(100)


@pytest.mark.slow
def test_after_a_thousand_swaps_too():
    swaps(1000)
