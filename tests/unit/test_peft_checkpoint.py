"""To PEFT and back: stock PEFT loads our prompt files and answers the same; what it saved is read, or refused by name."""

import copy
import json

import numpy as np
import pytest
import safetensors.numpy
import torch
from peft import (
    LoraConfig,
    MultitaskPromptTuningConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)

from softprompt.artifact import PromptFile
from softprompt.engine.head import Head
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.real_tokens import base_shape
from softprompt.engine.strategy import choose_strategy
from softprompt.errors import FingerprintMismatch, InvalidRecipe, VerificationFailed
from softprompt.peft_checkpoint import read_peft_prompt
from softprompt.tuning.initialisers import from_prompt
from tests.families import tiny_base
from tests.stock import random_prompt

BASES = ["llama", "gpt2", "gemma2", "t5", "t5-uneven", "bart"]
"""Grouped queries, none, windows; encoder-decoder models with even and odd layers, d_model other than heads x d_kv."""
ROW = torch.tensor([[20, 21, 22, 23]])
SAID = torch.tensor([[30, 31, 32]])


def file_of(values: torch.Tensor, dtype: str = "float32") -> PromptFile:
    return PromptFile.build(
        values.numpy(),
        dtype=dtype,
        task="generation",
        template="{a}",
        template_examples=(),
        answers=(),
        max_new_tokens=1,
        base_fingerprint="0" * 64,
    )


@torch.no_grad()
def our_logits(base, values):
    """`[4, V]`: after the text, and after each token that is said."""
    prompt = None if values is None else SoftPrompt(values)
    strategy = choose_strategy(base, prompt.kind if prompt else None)
    first, rows = strategy.start(strategy.prefix(prompt), ROW)
    return Head(base)(torch.cat([first[:, None], rows.extend(SAID)], dim=1)[0])


@torch.no_grad()
def peft_logits(base, directory):
    model = PeftModel.from_pretrained(copy.deepcopy(base.model), str(directory)).eval()
    ids = ROW if base.is_encoder_decoder else torch.cat([ROW, SAID], dim=1)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if base.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.cat([torch.tensor([[base.model.config.decoder_start_token_id]]), SAID], dim=1)
    return model(**inputs).logits[0, -4:]


@pytest.mark.parametrize(("kind", "dtype"), [("shallow", "float32"), ("deep", "float32"), ("deep", "bfloat16")])
@pytest.mark.parametrize("family", BASES)
def test_stock_peft_loads_a_prompt_file_and_says_the_same(tmp_path, family, kind, dtype):
    base = tiny_base(family)
    file = file_of(random_prompt(base, kind), dtype)
    file.write(tmp_path / "prompt", encoder_decoder=base.is_encoder_decoder)
    mine, theirs = our_logits(base, torch.from_numpy(file.values)), peft_logits(base, tmp_path / "prompt")
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert (mine - our_logits(base, None)).abs().max() > 0.1, "a prompt without influence would prove nothing"


@pytest.mark.parametrize(("kind", "dtype"), [("shallow", "float32"), ("deep", "float32"), ("deep", "bfloat16")])
@pytest.mark.parametrize("family", BASES)
def test_what_was_exported_is_imported_bit_for_bit(tmp_path, family, kind, dtype):
    base = tiny_base(family)
    file = file_of(random_prompt(base, kind), dtype)
    file.write(tmp_path / "prompt", encoder_decoder=base.is_encoder_decoder)
    (tmp_path / "prompt" / "manifest.json").unlink()
    again = read_peft_prompt(tmp_path / "prompt", base_shape(base))
    assert again.values.dtype == np.float32
    assert np.array_equal(again.values, file.values)
    assert again.dtype == dtype
    assert file_of(torch.from_numpy(again.values), again.dtype).tensor == file.tensor


def saved_by_peft(directory, base, config):
    model = get_peft_model(copy.deepcopy(base.model), config)
    weight = model.prompt_encoder["default"].embedding.weight.data.normal_()
    model.save_pretrained(str(directory))
    return weight.numpy(), peft_logits(base, directory)


@pytest.mark.parametrize("config", [PromptTuningConfig, PrefixTuningConfig])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma2", "t5", "bart"])
def test_what_peft_saved_by_its_own_defaults_says_the_same_here(tmp_path, family, config):
    base = tiny_base(family)
    task = "SEQ_2_SEQ_LM" if base.is_encoder_decoder else "CAUSAL_LM"
    weight, expected = saved_by_peft(tmp_path, base, config(task_type=task, num_virtual_tokens=5))
    kind = "shallow" if config is PromptTuningConfig else "deep"
    start = from_prompt(base, tmp_path, kind, 5)
    torch.testing.assert_close(our_logits(base, start.values.detach()), expected, rtol=1e-4, atol=1e-4)
    if kind == "shallow" and base.is_encoder_decoder:
        assert weight.shape[0] == 10, "PEFT writes twice the rows and uses the first half"
        assert np.array_equal(start.to_array(), weight[:5])


ENCODED = {
    "P-tuning": lambda task: PromptEncoderConfig(task_type=task, num_virtual_tokens=5, encoder_hidden_size=24),
    "P-tuning, LSTM": lambda task: PromptEncoderConfig(
        task_type=task,
        num_virtual_tokens=5,
        encoder_hidden_size=24,
        encoder_reparameterization_type="LSTM",
    ),
    "prefix projection": lambda task: PrefixTuningConfig(
        task_type=task, num_virtual_tokens=5, prefix_projection=True, encoder_hidden_size=24
    ),
}


@pytest.mark.parametrize("encoder", ENCODED)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "t5", "bart"])
def test_of_an_encoder_peft_saves_what_it_gave_and_that_is_what_is_read(tmp_path, family, encoder):
    base = tiny_base(family)
    model = get_peft_model(
        copy.deepcopy(base.model), ENCODED[encoder]("SEQ_2_SEQ_LM" if base.is_encoder_decoder else "CAUSAL_LM")
    )
    for parameter in model.prompt_encoder.parameters():
        parameter.data.normal_(std=0.5)
    model.save_pretrained(str(tmp_path))
    given = model.get_prompt_embedding_to_save("default").numpy()
    found = read_peft_prompt(tmp_path, base_shape(base))
    flat = found.values if found.values.ndim == 2 else found.values.transpose(2, 0, 1, 3, 4).reshape(5, -1)
    np.testing.assert_array_equal(flat, given[:5])
    mine, theirs = our_logits(base, torch.from_numpy(found.values)), peft_logits(base, tmp_path)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert (mine - our_logits(base, None)).abs().max() > 0.1, "a prompt without influence would prove nothing"


def saved_multitask(directory, base, **options):
    """A multitask checkpoint of stock PEFT's, three tasks of rank two."""
    task = "SEQ_2_SEQ_LM" if base.is_encoder_decoder else "CAUSAL_LM"
    config = MultitaskPromptTuningConfig(task_type=task, num_virtual_tokens=5, **({"num_tasks": 3, "num_ranks": 2} | options))
    model = get_peft_model(copy.deepcopy(base.model), config)
    for parameter in model.prompt_encoder.parameters():
        parameter.data.normal_()
    model.save_pretrained(str(directory))
    return directory


@torch.no_grad()
def multitask_logits(base, directory, task):
    model = PeftModel.from_pretrained(copy.deepcopy(base.model), str(directory)).eval()
    # The stock forward of encoder-decoder models drops decoder_input_ids here; labels are shifted into the same ones.
    ids = ROW if base.is_encoder_decoder else torch.cat([ROW, SAID], dim=1)
    labels = {"labels": torch.cat([SAID, SAID[:, :1]], dim=1)} if base.is_encoder_decoder else {}
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), task_ids=torch.tensor([task]), **labels).logits[0, -4:]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "t5", "bart"])
def test_each_task_of_a_multitask_prompt_says_what_stock_peft_says_for_it(tmp_path, family):
    base = tiny_base(family)
    directory = saved_multitask(tmp_path, base, num_transformer_submodules=1)
    said = []
    for task in range(3):
        found = read_peft_prompt(directory, base_shape(base), task=task)
        assert found.peft_type == "MULTITASK_PROMPT_TUNING"
        said.append(our_logits(base, torch.from_numpy(found.values)))
        torch.testing.assert_close(said[-1], multitask_logits(base, directory, task), rtol=1e-4, atol=1e-4)
    assert (said[0] - said[1]).abs().max() > 0.1
    assert (said[1] - said[2]).abs().max() > 0.1


def test_a_multitask_prompt_with_one_task_needs_no_number(tmp_path):
    base = tiny_base("llama")
    directory = saved_multitask(tmp_path, base, num_tasks=1)
    alone, named = (read_peft_prompt(directory, base_shape(base), task=task).values for task in (None, 0))
    assert np.array_equal(alone, named)


def test_a_half_that_goes_into_the_decoder_is_refused(tmp_path):
    """PEFT's default for encoder-decoder models; its forward uses both halves, its generate the first alone."""
    base = tiny_base("t5")
    with pytest.raises(VerificationFailed, match="a half that goes into a decoder"):
        read_peft_prompt(saved_multitask(tmp_path, base), base_shape(base), task=0)


def test_a_causal_model_has_one_submodule(tmp_path):
    """Stock PEFT puts all 2P rows before the text and marks only P of them in the mask."""
    base = tiny_base("llama")
    directory = written(tmp_path / "peft", base, "shallow", num_transformer_submodules=2)
    tensors(directory, prompt_embeddings=np.ones((10, 32), np.float32))
    with pytest.raises(VerificationFailed, match="num_transformer_submodules"):
        read_peft_prompt(directory, base_shape(base))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("prefix_task_cols", (2, 5, 2)),
        ("prefix_task_cols", (3, 4, 2)),
        ("prefix_task_rows", (3, 1, 32)),
        ("prefix_task_rows", (3, 2)),
    ],
)
def test_factors_that_do_not_fit_the_matrix_are_refused(tmp_path, name, shape):
    base = tiny_base("llama")
    directory = saved_multitask(tmp_path, base)
    entries = safetensors.numpy.load_file(directory / "adapter_model.safetensors")
    tensors(directory, **(entries | {name: np.ones(shape, np.float32)}))
    with pytest.raises(VerificationFailed, match="factors of a multitask prompt"):
        read_peft_prompt(directory, base_shape(base), task=0)


def test_factors_whose_product_overflows_are_refused(tmp_path):
    base = tiny_base("llama")
    directory = saved_multitask(tmp_path, base)
    entries = safetensors.numpy.load_file(directory / "adapter_model.safetensors")
    tensors(directory, **{name: entry * 1e30 for name, entry in entries.items()})
    with pytest.raises(VerificationFailed, match="NaN or infinity"):
        read_peft_prompt(directory, base_shape(base), task=0)


def written(directory, base, kind="deep", **changes):
    """A good checkpoint of PEFT's for a base, with changes to its configuration."""
    file_of(random_prompt(base, kind)).write(directory, encoder_decoder=base.is_encoder_decoder)
    (directory / "manifest.json").unlink()
    config = json.loads((directory / "adapter_config.json").read_text()) | changes
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"peft_type": "LORA"}, "'LORA'"),
        ({"peft_type": None}, "None"),
        ({"num_tasks": 0}, "num_tasks"),
        ({"num_virtual_tokens": "5"}, "num_virtual_tokens"),
        ({"num_virtual_tokens": 0}, "num_virtual_tokens"),
        ({"task_type": "SEQ_CLS"}, "task_type"),
    ],
)
def test_a_configuration_that_is_not_understood_is_refused_by_name(tmp_path, changes, reason):
    base = tiny_base("llama")
    with pytest.raises(VerificationFailed) as caught:
        read_peft_prompt(written(tmp_path / "peft", base, **changes), base_shape(base))
    assert reason in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("family", "kind", "changes", "reason"),
    [
        ("llama", "deep", {"task_type": "SEQ_2_SEQ_LM"}, "task_type"),
        ("llama", "deep", {"num_virtual_tokens": 4}, "rows"),
        ("llama", "shallow", {"num_virtual_tokens": 6}, "rows"),
        ("llama", "deep", {"num_transformer_submodules": 2}, "num_transformer_submodules"),
        ("t5", "deep", {"num_transformer_submodules": 1}, "num_transformer_submodules"),
        ("llama", "deep", {"num_attention_heads": 4}, "num_attention_heads"),
        ("llama", "deep", {"num_layers": 1}, "num_layers"),
        ("gpt2", "deep", {"token_dim": 31}, "token_dim"),
    ],
)
def test_a_configuration_that_the_base_contradicts_is_refused(tmp_path, family, kind, changes, reason):
    base = tiny_base(family)
    with pytest.raises(FingerprintMismatch, match=reason):
        read_peft_prompt(written(tmp_path / "peft", base, kind, **changes), base_shape(base))


@pytest.mark.parametrize(
    ("trained_on", "kind", "met", "reason"),
    [
        ("gpt2", "deep", "llama", "layers"),  # twice the heads look like twice the layers
        ("llama", "deep", "qwen3", "layers"),
        ("t5", "deep", "gpt2", "task_type"),
        ("t5", "deep", "t5-uneven", "more"),
        ("bart", "deep", "t5-uneven", "more"),
    ],
)
def test_a_prompt_of_another_base_is_refused(tmp_path, trained_on, kind, met, reason):
    directory = written(tmp_path / "peft", tiny_base(trained_on), kind, num_layers=None, num_attention_heads=None, token_dim=None)
    with pytest.raises(FingerprintMismatch) as caught:
        read_peft_prompt(directory, base_shape(tiny_base(met)))
    assert reason in str(caught.value)


def tensors(directory, **entries):
    safetensors.numpy.save_file(entries, directory / "adapter_model.safetensors")


GOOD = np.ones((5, 2 * 2 * 2 * 8), np.float32)


@pytest.mark.parametrize(
    "entries",
    [
        {"other": GOOD},
        {"prompt_embeddings": GOOD, "base_model.lm_head.weight": GOOD},
        {"prompt_embeddings": GOOD.astype(np.float64)},
        {"prompt_embeddings": GOOD.astype(np.int32)},
        {"prompt_embeddings": GOOD.reshape(5, 2, -1)},
        {"prompt_embeddings": GOOD[:, :0]},
        {"prompt_embeddings": GOOD[:0]},
        {},
        {"prompt_embeddings": GOOD * np.nan},
        {"prompt_embeddings": GOOD * np.inf},
    ],
)
def test_another_tensor_is_refused(tmp_path, entries):
    base = tiny_base("llama")
    directory = written(tmp_path / "peft", base)
    tensors(directory, prompt_embeddings=GOOD)
    assert read_peft_prompt(directory, base_shape(base)).values.shape == (2, 2, 5, 2, 8)
    tensors(directory, **entries)
    with pytest.raises(VerificationFailed, match=r"tensors of a PEFT prompt|something other|not a matrix|NaN or infinity"):
        read_peft_prompt(directory, base_shape(base))


def test_half_precision_is_widened(tmp_path):
    base, half = tiny_base("llama"), np.linspace(-1, 1, GOOD.size, dtype=np.float16).reshape(GOOD.shape)
    directory = written(tmp_path / "peft", base)
    tensors(directory, prompt_embeddings=half)
    values = read_peft_prompt(directory, base_shape(base)).values
    assert np.array_equal(values.transpose(2, 0, 1, 3, 4).reshape(5, -1), half.astype(np.float32))


def test_a_pickle_is_refused_by_name(tmp_path):
    base = tiny_base("llama")
    directory = written(tmp_path / "peft", base)
    (directory / "adapter_model.safetensors").rename(directory / "adapter_model.bin")
    with pytest.raises(VerificationFailed, match="is a pickle, which can run code"):
        read_peft_prompt(directory, base_shape(base))


def test_files_beyond_their_caps_or_absent_are_refused(tmp_path, monkeypatch):
    base = tiny_base("llama")
    directory = written(tmp_path / "peft", base)
    monkeypatch.setattr("softprompt.peft_checkpoint.MAX_TENSOR_BYTES", 1000)
    with pytest.raises(VerificationFailed, match="larger than it may be"):
        read_peft_prompt(directory, base_shape(base))
    (directory / "adapter_config.json").write_text("x" * 2**21)
    with pytest.raises(VerificationFailed, match="larger than it may be"):
        read_peft_prompt(directory, base_shape(base))
    (directory / "adapter_config.json").unlink()
    with pytest.raises(VerificationFailed, match="cannot be read"):
        read_peft_prompt(directory, base_shape(base))


def test_a_lora_checkpoint_is_no_prompt(tmp_path):
    base = tiny_base("llama")
    get_peft_model(copy.deepcopy(base.model), LoraConfig(task_type="CAUSAL_LM", r=2)).save_pretrained(str(tmp_path))
    with pytest.raises(VerificationFailed, match="not a prompt that softprompt knows"):
        from_prompt(base, tmp_path, "shallow", 5)


def test_another_kind_than_the_recipe_asks_for_or_a_longer_one_is_refused(tmp_path):
    base = tiny_base("llama")
    directory = written(tmp_path / "peft", base)
    assert from_prompt(base, directory, "deep", 5).num_tokens == 5
    for kind, num_tokens in (("shallow", 5), ("deep", 4)):
        with pytest.raises(InvalidRecipe, match="a longer one"):
            from_prompt(base, directory, kind, num_tokens)
