"""Over a base in 8 bits: loss and gradient of the same model in floats, in the memory of integers."""

import pytest
import torch
from torch import nn

from softprompt.base_model import parameter_digest
from softprompt.engine.concatenate import Concatenate
from softprompt.engine.head import Head
from softprompt.engine.packed import Packed
from softprompt.engine.shared_prefix import SharedPrefix
from softprompt.engine.strategy import choose_strategy
from softprompt.errors import UnsupportedBaseModel
from softprompt.quantised import FrozenLinear
from tests.families import CAUSAL, FAMILIES, tiny_base
from tests.int8_bases import dequantised, int8_base
from tests.unit.engine.test_parity import assert_same, deep, ours, rows, shallow, stock

VALUES = {"shallow": shallow, "deep": deep}
QUANTISABLE = [family for family in FAMILIES if family != "gpt2"]


def assert_as_stock_in_floats(strategy, kind):
    """Stock PEFT over plain layers with torchao's own floats; products are float32, so the bound is that of any float32 base."""
    values = VALUES[kind](strategy.base)
    theirs = stock(dequantised(strategy.base), values, rows(), shaped=kind == "deep")
    assert_same(ours(strategy, values, rows()), theirs)


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("family", QUANTISABLE)
def test_the_chosen_strategy_equals_stock_peft_over_the_same_weights_in_floats(family, kind):
    assert_as_stock_in_floats(choose_strategy(int8_base(family), kind), kind)


@pytest.mark.parametrize("family", [family for family in CAUSAL if family in QUANTISABLE])
def test_so_does_a_shallow_prompt_in_front(family):
    assert_as_stock_in_floats(Concatenate(int8_base(family)), "shallow")


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("family", ["llama", "opt", "gpt_neox"])
def test_so_do_packed_rows(family, kind):
    assert_as_stock_in_floats(Packed(int8_base(family)), kind)


@pytest.mark.parametrize("kind", VALUES)
def test_so_do_activations_that_are_computed_twice(kind):
    assert_as_stock_in_floats(SharedPrefix(int8_base("llama"), activation_checkpointing=True), kind)


@pytest.mark.parametrize("kind", VALUES)
def test_training_keeps_integers_and_no_float_copy_of_a_weight(kind):
    """torchao's own product keeps each weight as floats: the whole base, twice where a prompt and a text pass through it."""
    base = int8_base("llama")
    weights = {tuple(layer.weight.shape) for layer in base.model.modules() if isinstance(layer, FrozenLinear)}
    assert weights == {(32, 32), (16, 32), (48, 32), (32, 48)}
    kept = []

    def note(tensor):
        kept.append((type(tensor).__name__, tuple(tensor.shape)))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        ours(choose_strategy(base, kind), VALUES[kind](base), rows(lengths=(5, 6, 9, 7)))
    of_weights = [name for name, shape in kept if shape in weights or shape[::-1] in weights]
    assert "Int8Tensor" in of_weights
    assert set(of_weights) == {"Int8Tensor"}


def test_not_one_bit_of_a_quantised_base_changes_in_training():
    base = int8_base("llama")
    before = parameter_digest(base.model)
    ours(choose_strategy(base, "shallow"), shallow(base), rows())
    assert parameter_digest(base.model) == before
    layer = next(layer for layer in base.model.modules() if isinstance(layer, FrozenLinear))
    for part in (layer.weight.qdata, layer.weight.scale.view(torch.int32)):
        part.view(-1)[0] ^= 1
        assert parameter_digest(base.model) != before
        part.view(-1)[0] ^= 1
    assert parameter_digest(base.model) == before


def test_a_quantised_base_counts_its_numbers_as_before():
    assert int8_base("llama").num_parameters == dequantised(int8_base("llama")).num_parameters


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gemma2", "bart"])
def test_the_head_of_a_quantised_base_is_the_models_own_for_some_tokens(family):
    base = int8_base(family)
    assert type(base.model.get_output_embeddings()) is nn.Linear, "the head stays as it is"
    head, hidden = Head(base), torch.randn(3, base.hidden_size)
    torch.testing.assert_close(head(hidden, torch.tensor([5, 90])), head(hidden)[:, [5, 90]])


def test_a_base_without_linear_layers_is_refused_by_name():
    with pytest.raises(UnsupportedBaseModel, match="type gpt2 cannot be quantised") as caught:
        int8_base("gpt2")
    assert "bfloat16" in str(caught.value)


def test_quantising_changes_what_a_base_says_but_little():
    """Else the tests above would compare a base with itself, or with noise."""
    ids = torch.tensor([[5, 9, 30, 41]])
    with torch.no_grad():
        logits = [base.model(input_ids=ids).logits for base in (tiny_base("llama"), int8_base("llama"))]
    difference = float((logits[1] - logits[0]).norm() / logits[0].norm())
    assert 1e-4 < difference < 0.05
