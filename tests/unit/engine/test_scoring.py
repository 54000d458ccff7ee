"""Greedy generation equals the stock model's own, for every family and through prompts of both kinds."""

import pytest
import torch

from softprompt.engine.concatenate import Concatenate
from softprompt.engine.head import Head
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.scoring import generate_greedily
from softprompt.engine.strategy import choose_strategy
from softprompt.errors import UnsupportedBaseModel
from tests.families import CAUSAL, FAMILIES, tiny_base

ROWS = torch.tensor([[20, 21, 22, 23], [30, 31, 32, 33], [40, 41, 42, 43]])


def stock(base, values, row, num_tokens):
    """The stock model over prompt and text joined, computed anew for every token."""
    tokens: list[int] = []
    for _ in range(num_tokens):
        if base.is_encoder_decoder:
            embeds = torch.cat([values, base.embedding(row)])[None]
            decoder = torch.tensor([[base.model.config.decoder_start_token_id, *tokens]])
            logits = base.model(inputs_embeds=embeds, decoder_input_ids=decoder).logits
        else:
            embeds = torch.cat([values, base.embedding(torch.cat([row, torch.tensor(tokens, dtype=torch.long)]))])[None]
            logits = base.model(inputs_embeds=embeds).logits
        token = int(logits[0, -1].argmax())
        if token == 2:
            break
        tokens.append(token)
    return tokens


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_equal_those_of_the_stock_model(family):
    base = tiny_base(family)
    values = torch.randn(5, base.hidden_size, generator=torch.Generator().manual_seed(1))
    expected = [stock(base, values, row, 12) for row in ROWS]
    for strategy in (choose_strategy(base, "shallow"), Concatenate(base)):
        prefix = strategy.prefix(SoftPrompt(values))
        assert generate_greedily(strategy, Head(base), prefix, ROWS, max_new_tokens=12, end_token=2) == expected
    if family in ("llama", "gpt2", "qwen2"):
        bare = [stock(base, values[:0], row, 12) for row in ROWS]
        assert bare != expected, "a prompt without influence would prove nothing"


@torch.no_grad()
def test_a_row_ends_at_the_end_token_while_others_go_on():
    base = tiny_base("llama")
    strategy = choose_strategy(base, None)
    answers = generate_greedily(strategy, Head(base), strategy.prefix(None), ROWS, max_new_tokens=20, end_token=-1)
    end = answers[0][3]
    cut = generate_greedily(strategy, Head(base), strategy.prefix(None), ROWS, max_new_tokens=20, end_token=end)
    assert cut == [answer[: answer.index(end)] if end in answer else answer for answer in answers]
    assert len(cut[0]) <= 3


@pytest.mark.parametrize("family", CAUSAL)
def test_causal_families_share_a_prefix(family):
    assert choose_strategy(tiny_base(family), "deep").name == "shared_prefix"


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_deep_prompt_of_an_encoder_decoder_model_is_refused_by_name(family):
    assert choose_strategy(tiny_base(family), "shallow").name == "concatenate"
    with pytest.raises(UnsupportedBaseModel, match=family):
        choose_strategy(tiny_base(family), "deep")


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
