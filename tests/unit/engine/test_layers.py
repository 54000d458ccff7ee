"""Layers compute what is read and no more, and activation checkpointing changes no gradient."""

import pytest
import torch

from softprompt.engine.batches import Collator
from softprompt.engine.layers import decoder_layers, feed_forward_only_at
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.shared_prefix import SharedPrefix
from softprompt.engine.strategy import choose_strategy
from softprompt.errors import UnsupportedBaseModel
from tests.families import CAUSAL, tiny_base
from tests.unit.engine.test_parity import deep, ours, rows, shallow

KINDS = {"shallow": shallow, "deep": deep}


def relative_difference(actual, expected):
    return ((actual - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", CAUSAL)
def test_checkpointing_changes_no_gradient(family, kind):
    base = tiny_base(family)
    values = KINDS[kind](base)
    loss, gradient = ours(choose_strategy(base, kind), values, rows())
    again, gradient_again = ours(choose_strategy(base, kind, activation_checkpointing=True), values, rows())
    assert gradient.norm() > 1e-4
    assert abs(again - loss) / loss < 1e-6
    assert relative_difference(gradient_again, gradient) < 1e-6


@pytest.mark.parametrize("family", ["llama", "mistral-window"])
def test_checkpointing_keeps_less_and_leaves_the_layers_as_they_were(family):
    base = tiny_base(family)
    kept = {}
    for checkpointing in (False, True):
        strategy = SharedPrefix(base, activation_checkpointing=checkpointing)
        prefix = strategy.prefix(SoftPrompt(shallow(base)))
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda part, seen=sizes: seen.append(part.nbytes) or part, lambda part: part
        ):
            strategy.hidden(prefix, Collator(None, None)(rows()))
        kept[checkpointing] = sum(sizes)
    assert kept[True] < 0.7 * kept[False]  # one of two layers
    assert all("forward" not in vars(layer) for layer in decoder_layers(base))


def test_checkpointing_is_refused_by_name_where_there_is_no_prefix_cache():
    with pytest.raises(UnsupportedBaseModel, match="Activation checkpointing is not supported on t5"):
        choose_strategy(tiny_base("t5"), "shallow", activation_checkpointing=True)


def test_the_last_feed_forward_block_sees_the_scored_positions_only():
    base = tiny_base("llama")
    strategy, batch = SharedPrefix(base), Collator(None, None)(rows())
    seen = []
    hook = decoder_layers(base)[-1].mlp.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    strategy.hidden(strategy.prefix(SoftPrompt(shallow(base))), batch)
    hook.remove()
    assert seen == [0, len(batch.rows)]  # the prompt's pass, the rows' pass


def test_the_block_is_whole_again_afterwards_even_after_an_error():
    base = tiny_base("llama")
    with pytest.raises(RuntimeError, match="stop"), feed_forward_only_at(decoder_layers(base), torch.zeros(1, 3).bool()):
        raise RuntimeError("stop")
    assert decoder_layers(base)[-1].mlp(torch.randn(1, 3, 32)).abs().min() > 0
