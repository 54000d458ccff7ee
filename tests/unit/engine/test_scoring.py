"""Greedy generation equals the stock model's own, for every family and through prompts of both kinds."""

import pytest
import torch

from softprompt.engine.batches import pad
from softprompt.engine.head import Head
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.scoring import generate
from softprompt.engine.strategy import choose_strategy
from softprompt.errors import UnsupportedBaseModel
from tests.families import CAUSAL, ENCODER_DECODER, FAMILIES, strategies_for, tiny_base
from tests.stock import Stock, random_prompt

ROWS = torch.tensor([[20, 21, 22, 23], [30, 31, 32, 33], [40, 41, 42, 43]])


def greedily(stock: Stock, row: torch.Tensor, num_tokens: int, end: int = 2) -> list[int]:
    """The stock model's most likely tokens, everything computed anew for each."""
    tokens: list[int] = []
    for _ in range(num_tokens):
        token = int(stock.answer_logits(row.tolist(), tokens)[-1].argmax())
        if token == end:
            break
        tokens.append(token)
    return tokens


@torch.no_grad()
@pytest.mark.parametrize("kind", ["shallow", "deep", None])
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_equal_those_of_the_stock_model(family, kind):
    base = tiny_base(family)
    values = random_prompt(base, kind) if kind else None
    stock = Stock(base, values)
    expected = [greedily(stock, row, 8) for row in ROWS]
    for strategy in strategies_for(base, kind):
        prefix = strategy.prefix(SoftPrompt(values) if kind else None)
        assert generate(strategy, Head(base), prefix, ROWS, max_new_tokens=8, end_token=2) == expected
    if kind and family in ("llama", "gpt2", "qwen2", "bart", "t5"):
        bare = [greedily(Stock(base, None), row, 8) for row in ROWS]
        assert bare != expected, "a prompt without influence would prove nothing"


@torch.no_grad()
def test_a_row_ends_at_the_end_token_while_others_go_on():
    base = tiny_base("llama")
    strategy = choose_strategy(base, None)
    answers = generate(strategy, Head(base), strategy.prefix(None), ROWS, max_new_tokens=20, end_token=-1)
    end = answers[0][3]
    cut = generate(strategy, Head(base), strategy.prefix(None), ROWS, max_new_tokens=20, end_token=end)
    assert cut == [answer[: answer.index(end)] if end in answer else answer for answer in answers]
    assert len(cut[0]) <= 3


@pytest.mark.parametrize("family", CAUSAL)
def test_causal_families_share_a_prefix(family):
    assert choose_strategy(tiny_base(family), "deep").name == "shared_prefix"


@pytest.mark.parametrize("family", ENCODER_DECODER)
def test_deep_prompts_go_into_the_decoder_and_shallow_ones_into_the_encoder(family):
    base = tiny_base(family)
    assert choose_strategy(base, "deep").name == choose_strategy(base, None).name == "decoder_prefix"
    assert choose_strategy(base, "shallow").name == "concatenate"
    with pytest.raises(UnsupportedBaseModel, match="does not fit the decoder"):
        choose_strategy(base, "deep").prefix(SoftPrompt(random_prompt(base, "shallow")))


def test_a_decoder_with_sliding_windows_is_refused_by_name():
    """PEFT's cache has no windows there."""
    from transformers import AutoModelForSeq2SeqLM, T5GemmaConfig, T5GemmaModuleConfig

    from softprompt.base_model import FrozenBase, TextSide

    sizes = {"vocab_size": 97, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "head_dim": 8}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 4}
    side = T5GemmaModuleConfig(**sizes)
    config = T5GemmaConfig(encoder=side, decoder=side, vocab_size=97, is_encoder_decoder=True)
    base = FrozenBase(AutoModelForSeq2SeqLM.from_config(config).eval(), TextSide(None, config), "0" * 64)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedBaseModel, match="t5gemma") as caught:
        choose_strategy(base, "deep")
    assert "DynamicSlidingWindowLayer" in str(caught.value)
    assert choose_strategy(base, None).name == "concatenate"


def test_a_model_without_such_a_cache_is_refused_by_the_shared_prefix():
    """A state-space model keeps no keys and values; the other strategy takes over."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from softprompt.base_model import FrozenBase, TextSide

    config = AutoConfig.for_model("mamba", vocab_size=97, hidden_size=16, num_hidden_layers=2, state_size=4)
    model = AutoModelForCausalLM.from_config(config).eval()
    base = FrozenBase(model, TextSide(None, config), "0" * 64)  # type: ignore[arg-type]
    assert choose_strategy(base, "shallow").name == "concatenate"
    with pytest.raises(UnsupportedBaseModel, match="cache"):
        choose_strategy(base, "deep")


LONG, SHORT, MIDDLE = [20, 21, 22, 23, 24, 25, 26, 27, 28], [30, 31], [40, 41, 42, 43, 44]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["shallow", "deep", None])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_are_padded_together_are_what_each_is_alone(family, kind):
    """Hidden states behind the text, behind answer tokens, of repeated rows and of some rows only."""
    base = tiny_base(family)
    strategy = choose_strategy(base, kind)
    if not strategy.pads:
        assert "window" in family or family.startswith("gemma") or strategy.name == "concatenate"
        return
    prefix = strategy.prefix(SoftPrompt(random_prompt(base, kind)) if kind else None)
    ids, mask = pad([LONG, SHORT, MIDDLE], "cpu")
    first, state = strategy.start(prefix, ids, mask.sum(dim=1))
    repeated = state.repeat(2).extend(torch.tensor([[7, 8], [9, 10]]).repeat(3, 1))
    kept = state.keep(torch.tensor([2, 0]))
    more = kept.extend(torch.tensor([[7], [7]])), kept.extend(torch.tensor([[8], [8]]))
    for number, row in enumerate([LONG, SHORT, MIDDLE]):
        alone, its_state = strategy.start(prefix, torch.tensor([row]))
        expected = its_state.repeat(2).extend(torch.tensor([[7, 8], [9, 10]]))
        torch.testing.assert_close(first[number], alone[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(repeated[2 * number : 2 * number + 2], expected, rtol=1e-4, atol=1e-5)
        if row != SHORT:
            place = [MIDDLE, LONG].index(row)
            torch.testing.assert_close(torch.cat([part[place] for part in more]), expected[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "t5"])
def test_texts_of_padded_rows_equal_those_of_the_stock_model(family):
    """Rows end at different times, so some are dropped on the way."""
    base = tiny_base(family)
    values = random_prompt(base, "deep")
    stock, strategy = Stock(base, values), choose_strategy(base, "deep")
    rows = [LONG, SHORT, MIDDLE, [50, 51, 52], [60], [70, 71, 72, 73]]
    ids, mask = pad(rows, "cpu")
    prefix = strategy.prefix(SoftPrompt(values))
    end = greedily(stock, torch.tensor(LONG), 3, end=-1)[2]
    expected = [greedily(stock, torch.tensor(row), 12, end) for row in rows]
    found = generate(strategy, Head(base), prefix, ids, mask.sum(dim=1), max_new_tokens=12, end_token=end)
    assert found == expected
    assert len({len(tokens) for tokens in found}) > 1
