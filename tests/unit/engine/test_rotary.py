"""How far keys turn, as the model itself turns them."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from softprompt.base_model import FrozenBase, TextSide
from softprompt.engine.rotary import holds_still, turns
from tests.families import CAUSAL, ENCODER_DECODER, FAMILIES, SMALL, tiny_base

WITHOUT = ("gpt2", "opt")
WITH = [name for name in CAUSAL if name not in WITHOUT]


def keys_at(base, places):
    """Keys `[L, places, N, D]` of one token that is alone in its text, so that nothing but its place differs."""
    cache = DynamicCache()
    ids = torch.full((len(places), 1), 7)
    base.model(input_ids=ids, position_ids=torch.tensor(places)[:, None], past_key_values=cache, use_cache=True)
    return torch.stack([layer.keys[:, :, 0] for layer in cache.layers])


def random_base(kind, options):
    config = AutoConfig.for_model(kind, bos_token_id=1, eos_token_id=2, pad_token_id=0, **options)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    return FrozenBase(model, TextSide(None, config), "0" * 64)


@pytest.mark.parametrize("family", [*WITH, "cohere"])
def test_keys_turn_by_what_is_said(family):
    """Whatever turns evenly by an angle a place obeys k(p + 1) + k(p - 1) = 2 cos(angle) k(p), number by number."""
    # Cohere's pairs stand side by side, everybody else's half a head apart.
    base = random_base("cohere", SMALL) if family == "cohere" else tiny_base(family)
    before, here, after = keys_at(base, [4, 5, 6]).unbind(1)
    angles = turns(base)[:, None]
    assert angles.shape == (2, 1, here.shape[-1])
    torch.testing.assert_close(before + after, 2 * angles.cos() * here, rtol=1e-4, atol=1e-4 * here.abs().max().item())
    assert angles.amax().item() == pytest.approx(1)
    wrong = 2 * angles.flip(-1).cos() * here
    assert (before + after - wrong).abs().amax() > 0.01 * here.abs().amax()


@pytest.mark.parametrize("family", [*WITHOUT, *ENCODER_DECODER])
def test_a_base_without_rotary_embeddings_turns_nothing(family):
    assert turns(tiny_base(family)) is None
    assert holds_still(tiny_base(family), 100) is None


def test_numbers_that_are_not_turned_hold_still():
    base = tiny_base("gpt_neox")  # turns a quarter of each head
    assert (turns(base)[:, 2:] == 0).all()
    assert holds_still(base, 1e6)[:, 2:].all()


def test_layers_that_see_further_turn_slower():
    options = FAMILIES["gemma3"][1] | {"layer_types": ["sliding_attention", "full_attention"]}
    near, far = turns(random_base("gemma3_text", options))
    assert (far <= near).all()
    assert far.sum() < near.sum()


@pytest.mark.parametrize(("num_tokens", "pairs"), [(0.5, 8), (2.5, 7), (9, 6), (25, 5), (80, 4), (10_000, 4)])
def test_the_longer_a_text_the_fewer_numbers_hold_still_but_half_always_do(num_tokens, pairs):
    """Qwen3 with heads of 16: pair i turns by 10,000 ** (-i / 8) a place, 1, 0.32, 0.1, 0.032, 0.01, ..."""
    still = holds_still(tiny_base("qwen3"), num_tokens)
    assert still.sum(dim=1).tolist() == [2 * pairs] * 2
    assert torch.equal(still[0], torch.cat([torch.arange(8) >= 8 - pairs] * 2))
