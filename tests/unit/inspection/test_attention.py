"""Attention paid to a prompt: against the stock model's and stock PEFT's own attention weights, summed by hand."""

import contextlib
import copy

import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model

from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.shared_prefix import SharedPrefix
from softprompt.errors import UnsupportedBaseModel
from softprompt.inspection.attention import AT_THE_ANSWER, OVER_THE_TEXT, attention_paid, eager_attention
from tests.families import CAUSAL, tiny_base
from tests.stock import fold, peft_config, random_prompt

P = 5
ROWS = [[11, 45, 3, 60, 8, 21], [9, 33], [70]]
WITHOUT_WINDOW = ["gpt2", "llama", "qwen2", "qwen3", "phi3", "opt", "gpt_neox"]


def shallow(base, num_tokens=P):
    generator = torch.Generator().manual_seed(3)
    return SoftPrompt(torch.randn(num_tokens, base.hidden_size, generator=generator) * 2 * base.embedding_rms)


def as_deep(base, prompt):
    """The deep prompt that does what a shallow one does: its keys and values."""
    pairs = SharedPrefix(base).prefix(prompt).layers
    return SoftPrompt(torch.stack([torch.stack([k[0].transpose(0, 1), v[0].transpose(0, 1)]) for k, v in pairs]))


def eager(base):
    model = copy.deepcopy(base.model)
    model.set_attn_implementation("eager")
    return model


def by_hand(weights, first_query):
    """Loops over one row's weights `[1, heads, Q, S]` a layer: (over the text, at the answer), each `[L, heads, P]`."""
    over, last = [], []
    for layer in weights:
        queries = layer.shape[2]
        over.append(
            [
                [sum(head[q, p].item() for q in range(first_query, queries)) / (queries - first_query) for p in range(P)]
                for head in layer[0]
            ]
        )
        last.append([[head[queries - 1, p].item() for p in range(P)] for head in layer[0]])
    return torch.tensor(over), torch.tensor(last)


def assert_means(found, expected):
    for name, number in ((OVER_THE_TEXT, 0), (AT_THE_ANSWER, 1)):
        mean = sum(row[number] for row in expected) / len(expected)
        assert mean.sum() > 1e-3, "attention to nothing would prove nothing"
        torch.testing.assert_close(found[name].shares, mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", CAUSAL)
def test_a_shallow_prompt_gets_what_the_stock_model_pays_to_vectors_in_front(family):
    base = tiny_base(family)
    prompt, model = shallow(base), eager(base)
    expected = []
    for row in ROWS:
        joined = torch.cat([prompt.values, base.embedding(torch.tensor(row))])[None]
        with torch.no_grad():
            expected.append(by_hand(model(inputs_embeds=joined, output_attentions=True).attentions, P))
    assert_means(attention_paid(base, prompt, ROWS), expected)


@pytest.mark.parametrize("family", WITHOUT_WINDOW)
def test_a_deep_prompt_gets_what_stock_peft_pays_to_its_prefix(family):
    base = tiny_base(family)
    values = torch.randn(as_deep(base, shallow(base)).values.shape, generator=torch.Generator().manual_seed(5))
    model = get_peft_model(eager(base), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P)).eval()
    model.prompt_encoder["default"].embedding.weight.data = values.permute(2, 0, 1, 3, 4).flatten(1)
    expected = []
    for row in ROWS:
        ids = torch.tensor([row])
        with torch.no_grad():
            expected.append(
                by_hand(model(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True).attentions, 0)
            )
    assert_means(attention_paid(base, SoftPrompt(values), ROWS), expected)


@pytest.mark.parametrize("family", CAUSAL)
def test_a_deep_prompt_that_does_what_a_shallow_one_does_gets_the_same_attention(family):
    """Sliding windows, too: of twelve vectors a window of eight hides the first ones."""
    base = tiny_base(family)
    prompt = shallow(base, 12)
    one, other = attention_paid(base, prompt, ROWS), attention_paid(base, as_deep(base, prompt), ROWS)
    for name in one:
        torch.testing.assert_close(other[name].shares, one[name].shares, rtol=1e-3, atol=1e-5)
    if family == "mistral-window":
        assert one[AT_THE_ANSWER].shares[..., :5].abs().max() == 0, "12 + 1 - 8 = 5 are out of reach of even the shortest row"
        assert one[AT_THE_ANSWER].shares[..., 5].min() > 0


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_in_an_encoder_decoder_model_the_encoders_text_and_the_decoders_first_token_pay(family):
    base = tiny_base(family)
    prompt, model, expected = shallow(base), eager(base), []
    for row in ROWS:
        joined = torch.cat([prompt.values, base.embedding(torch.tensor(row))])[None]
        first = torch.tensor([[base.model.config.decoder_start_token_id]])
        with torch.no_grad():
            out = model(inputs_embeds=joined, decoder_input_ids=first, output_attentions=True)
        expected.append((by_hand(out.encoder_attentions, P)[0], by_hand(out.cross_attentions, 0)[1]))
    assert_means(attention_paid(base, prompt, ROWS), expected)


def test_the_even_share_is_what_a_head_pays_that_looks_everywhere_alike():
    """Queries and keys of zero look everywhere alike."""
    base = tiny_base("llama")
    for name, weight in base.model.named_parameters():
        if "q_proj" in name:
            weight.zero_()
    for reading in attention_paid(base, shallow(base), ROWS).values():
        torch.testing.assert_close(reading.shares.sum(dim=2), torch.full((2, 4), reading.even_share))


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_deep_prompt_of_a_decoder_gets_what_stock_peft_pays_to_its_prefix_with_the_first_token(family):
    base = tiny_base(family)
    values = random_prompt(base, "deep", P)
    model = get_peft_model(eager(base), peft_config(values, "SEQ_2_SEQ_LM")).eval()
    model.prompt_encoder["default"].embedding.weight.data = fold(values)
    expected = []
    for row in ROWS:
        ids, first = torch.tensor([row]), torch.tensor([[base.model.config.decoder_start_token_id]])
        with torch.no_grad():
            out = model(
                input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=first, output_attentions=True
            ).decoder_attentions
        expected.append(by_hand(out, 0)[1])
    found = attention_paid(base, SoftPrompt(values), ROWS)
    assert list(found) == [AT_THE_ANSWER], "the encoder does not see it"
    torch.testing.assert_close(found[AT_THE_ANSWER].shares, torch.stack(expected).mean(0), rtol=1e-4, atol=1e-6)
    assert found[AT_THE_ANSWER].even_share == P / (P + 1)


def test_a_prompt_that_does_not_fit_the_decoder_is_refused_by_name():
    with pytest.raises(UnsupportedBaseModel, match="does not fit the decoder"):
        attention_paid(tiny_base("bart"), SoftPrompt(torch.randn(1, 2, P, 4, 8)), ROWS)


def test_the_model_is_left_as_it_was():
    base = tiny_base("llama")
    before = base.model.config._attn_implementation
    assert before != "eager"
    with contextlib.suppress(KeyError), eager_attention(base):
        assert base.model.config._attn_implementation == "eager"
        raise KeyError
    assert base.model.config._attn_implementation == before
