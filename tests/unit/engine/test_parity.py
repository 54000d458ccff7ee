"""Loss and prompt gradient equal those of stock PEFT on the same right-padded batch, for every family and both kinds."""

import copy

import pytest
import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

from softprompt.base_model import FrozenBase
from softprompt.engine.batches import Collator, Example
from softprompt.engine.concatenate import Concatenate, decoder_start
from softprompt.engine.decoder_prefix import num_decoder_layers
from softprompt.engine.head import Head
from softprompt.engine.losses import loss_sum
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.real_tokens import token_values
from softprompt.engine.strategy import Strategy, choose_strategy
from softprompt.errors import UnsupportedBaseModel
from tests.families import CAUSAL, ENCODER_DECODER, FAMILIES, V, tiny_base

P = 12
TOLERANCE = 1e-5


@pytest.fixture(params=list(FAMILIES))
def base(request) -> FrozenBase:
    """Each family in turn."""
    return tiny_base(request.param)


def rows(lengths=(5, 20, 9, 1), answers=(3, 1, 2, 4), seed=0):
    """Examples of random tokens; the last token of each answer stands for the end token."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda n: torch.randint(3, V, (n,), generator=generator).tolist()
    return [Example(draw(n), [*draw(a), 2], -1) for n, a in zip(lengths, answers, strict=True)]


def ours(strategy: Strategy, values: torch.Tensor, examples) -> tuple[float, torch.Tensor]:
    """Mean loss over label tokens and the gradient of the prompt."""
    prompt = SoftPrompt(values)
    batch = Collator(None, decoder_start(strategy.base))(examples)
    hidden = strategy.hidden(strategy.prefix(prompt), batch)
    loss = loss_sum(Head(strategy.base), None, hidden, batch) / sum(len(e.answer_ids) for e in examples)
    loss.backward()
    return loss.item(), prompt.values.grad


def stock(base: FrozenBase, values: torch.Tensor, examples, *, shaped: bool = False) -> tuple[float, torch.Tensor]:
    """The same from stock PEFT: full logits, its own loss, its own prompt; `shaped`: it is told a deep prompt's shape."""
    task = "SEQ_2_SEQ_LM" if base.is_encoder_decoder else "CAUSAL_LM"
    if values.ndim == 2:
        config = PromptTuningConfig(task_type=task, num_virtual_tokens=len(values), num_transformer_submodules=1)
        flat = values
    else:
        layers, _, tokens, heads, size = values.shape
        options = {"num_layers": layers, "num_attention_heads": heads, "token_dim": heads * size} if shaped else {}
        options |= {"num_transformer_submodules": 2} if base.is_encoder_decoder else {}
        config = PrefixTuningConfig(task_type=task, num_virtual_tokens=tokens, **options)
        flat = values.permute(2, 0, 1, 3, 4).flatten(1)
    model = get_peft_model(copy.deepcopy(base.model), config).eval()
    weight = model.prompt_encoder["default"].embedding.weight
    weight.data = flat.clone()
    width = max(e.num_tokens if not base.is_encoder_decoder else len(e.input_ids) for e in examples)
    ids, mask = torch.zeros(len(examples), width, dtype=torch.long), torch.zeros(len(examples), width, dtype=torch.long)
    labels_width = max(len(e.answer_ids) for e in examples) if base.is_encoder_decoder else width
    labels = torch.full((len(examples), labels_width), -100)
    for i, e in enumerate(examples):
        sequence = e.input_ids if base.is_encoder_decoder else e.input_ids + e.answer_ids
        ids[i, : len(sequence)], mask[i, : len(sequence)] = torch.tensor(sequence), 1
        start = 0 if base.is_encoder_decoder else len(e.input_ids)
        labels[i, start : start + len(e.answer_ids)] = torch.tensor(e.answer_ids)
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    grad = weight.grad
    if values.ndim == 5:
        layers, _, tokens, heads, size = values.shape
        grad = grad.reshape(tokens, layers, 2, heads, size).permute(1, 2, 0, 3, 4)
    return loss.item(), grad


def assert_same(mine, theirs):
    (loss, grad), (expected_loss, expected_grad) = mine, theirs
    assert expected_grad.norm() > 1e-4, "a prompt without influence would prove nothing"
    assert abs(loss - expected_loss) / expected_loss < TOLERANCE
    assert (grad - expected_grad).norm() / expected_grad.norm() < TOLERANCE


def shallow(base: FrozenBase) -> torch.Tensor:
    return torch.randn(P, base.hidden_size, generator=torch.Generator().manual_seed(3)) * 0.5


def deep(base: FrozenBase, num_layers: int = 0) -> torch.Tensor:
    layers, two, _, heads, size = token_values(base, [0], "deep").shape
    return torch.randn(num_layers or layers, two, P, heads, size, generator=torch.Generator().manual_seed(4))


def test_shallow_prompt_equals_peft_in_the_chosen_strategy(base):
    values = shallow(base)
    assert_same(ours(choose_strategy(base, "shallow"), values, rows()), stock(base, values, rows()))


def test_shallow_prompt_equals_peft_when_concatenated(base):
    values = shallow(base)
    assert_same(ours(Concatenate(base), values, rows()), stock(base, values, rows()))


@pytest.mark.parametrize("family", CAUSAL)
def test_deep_prompt_equals_peft_prefix_tuning(family):
    base = tiny_base(family)
    values = deep(base)
    assert_same(ours(choose_strategy(base, "deep"), values, rows()), stock(base, values, rows()))


@pytest.mark.parametrize("family", ENCODER_DECODER)
def test_deep_prompt_of_a_decoder_equals_peft_prefix_tuning(family):
    """In the shape that our prompt files tell PEFT: an odd number of layers, the decoder's own heads."""
    base = tiny_base(family)
    values = deep(base)
    mine, theirs = ours(choose_strategy(base, "deep"), values, rows()), stock(base, values, rows(), shaped=True)
    assert_same(mine, theirs)
    used = theirs[1].flatten(1).norm(dim=1) > 1e-4
    assert used.sum() == num_decoder_layers(base), "each decoder layer has keys and values of its own"


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_deep_prompt_of_a_decoder_equals_pefts_own_default(family):
    """PEFT makes as many layers as the encoder has; of an even number it uses half, each for two decoder layers."""
    base = tiny_base(family)
    values = deep(base, num_layers=2)
    theirs = stock(base, values, rows())
    assert_same(ours(choose_strategy(base, "deep"), values, rows()), theirs)
    assert theirs[1][1].norm() == 0


def test_a_prompt_with_fewer_layers_than_the_decoder_is_refused():
    """As many as the encoder has, PEFT's default; PEFT fails on it."""
    base = tiny_base("t5-uneven")
    with pytest.raises(IndexError):
        stock(base, deep(base, num_layers=2), rows(), shaped=True)
    with pytest.raises(UnsupportedBaseModel, match="does not fit the decoder") as caught:
        ours(choose_strategy(base, "deep"), deep(base, num_layers=2), rows())
    assert "at least 3 layers" in str(caught.value)
