"""Base models: identity, safe loading, and clear refusals."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from softprompt.base_model import load_base_model, load_text_side, parameter_digest
from softprompt.errors import BaseModelUnavailable, FingerprintMismatch
from softprompt.fingerprint import fingerprint
from tests.builders import save_llama


@pytest.fixture
def copy(llama_directory, tmp_path):
    return shutil.copytree(llama_directory, tmp_path / "copy")


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_fingerprint_is_the_same_whatever_the_sharding(tmp_path):
    whole, sharded = save_llama(tmp_path / "whole"), save_llama(tmp_path / "sharded", shards="20KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    assert fingerprint(whole) == fingerprint(sharded)


def test_fingerprint_ignores_what_has_no_meaning(copy, llama_directory):
    edit_json(copy / "config.json", _name_or_path="elsewhere", transformers_version="0.0")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(dict(reversed(config.items())), indent=7))
    assert fingerprint(copy) == fingerprint(llama_directory)


@pytest.mark.parametrize("change", ["a weight", "a dtype", "the config", "the tokenizer", "the chat template"])
def test_fingerprint_changes_with_everything_that_matters(copy, llama_directory, change):
    weights = copy / "model.safetensors"
    tensors = load_file(weights)
    name = next(iter(tensors))
    if change == "a weight":
        tensors[name].view(-1)[0] += 1e-6
        save_file(tensors, weights)
    elif change == "a dtype":
        save_file(tensors | {name: tensors[name].bfloat16()}, weights)
    elif change == "the config":
        edit_json(copy / "config.json", rms_norm_eps=0.01)
    elif change == "the tokenizer":
        edit_json(copy / "tokenizer_config.json", eos_token="<pad>")
    else:
        (copy / "chat_template.jinja").write_text("{{ messages }}")
    assert fingerprint(copy) != fingerprint(llama_directory)


def test_fingerprint_of_a_large_base_is_remembered_until_a_file_changes(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("softprompt.fingerprint.REMEMBER_ABOVE_BYTES", 0)
    first = fingerprint(copy, cache=tmp_path)
    monkeypatch.setattr("softprompt.fingerprint._digest_of_tensors", lambda files: pytest.fail("hashed again"))
    assert fingerprint(copy, cache=tmp_path) == first
    monkeypatch.undo()
    edit_json(copy / "config.json", rms_norm_eps=0.01)
    monkeypatch.setattr("softprompt.fingerprint.REMEMBER_ABOVE_BYTES", 0)
    assert fingerprint(copy, cache=tmp_path) != first


def test_a_loaded_base_is_frozen_and_in_evaluation_mode(llama_directory):
    base = load_base_model(llama_directory)
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert not base.model.training
    assert (base.hidden_size, base.vocabulary_size, base.text.context_tokens) == (32, 320, 64)
    assert base.fingerprint == fingerprint(llama_directory)


def test_embedding_rms_is_that_of_the_table(llama_directory):
    base = load_base_model(llama_directory)
    assert base.embedding_rms == pytest.approx(base.embedding.weight.square().mean().sqrt().item())


def test_parameter_digest_sees_one_bit(llama_directory):
    model = load_base_model(llama_directory).model
    before = parameter_digest(model)
    assert parameter_digest(model) == before
    with torch.no_grad():
        weight = next(model.parameters()).view(torch.int32)
        weight.view(-1)[0] ^= 1
    assert parameter_digest(model) != before


def test_another_base_than_expected_is_refused(llama_directory):
    with pytest.raises(FingerprintMismatch) as caught:
        load_base_model(llama_directory, expected_fingerprint="0" * 64)
    assert "0" * 64 in str(caught.value)
    assert fingerprint(llama_directory) in str(caught.value)
    assert caught.value.exit_code == 2


def test_pickled_weights_are_never_loaded(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(BaseModelUnavailable, match="pickled weights only") as caught:
        load_base_model(copy)
    assert "pytorch_model.bin" in str(caught.value)


def test_a_base_that_is_not_there(tmp_path):
    with pytest.raises(BaseModelUnavailable, match="no base model here") as caught:
        load_base_model(tmp_path / "nothing")
    assert str(tmp_path / "nothing") in str(caught.value)


def test_a_base_that_needs_remote_code_is_refused(copy):
    edit_json(copy / "config.json", model_type="own", architectures=["Own"], auto_map={"AutoConfig": "own.OwnConfig"})
    (copy / "own.py").write_text("raise SystemExit('remote code ran')")
    with pytest.raises(BaseModelUnavailable, match="does not load"):
        load_base_model(copy)


@pytest.mark.parametrize("damage", [b"", b"\xff" * 8, b"\x10\0\0\0\0\0\0\0not json at all!"])
def test_damaged_weights_are_named(copy, damage):
    (copy / "model.safetensors").write_bytes(damage)
    with pytest.raises(BaseModelUnavailable, match="not safetensors") as caught:
        fingerprint(copy)
    assert "model.safetensors" in str(caught.value)


def test_weights_cut_short_are_named(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(BaseModelUnavailable, match="cut short"):
        fingerprint(copy)


def test_a_tokenizer_without_end_token_is_refused(copy):
    content = json.loads((copy / "tokenizer_config.json").read_text())
    content.pop("eos_token")
    (copy / "tokenizer_config.json").write_text(json.dumps(content))
    with pytest.raises(BaseModelUnavailable, match="no end token"):
        load_text_side(copy)


@pytest.mark.parametrize("load", [load_base_model, load_text_side])
def test_files_that_are_quantised_already_are_refused_by_name(copy, load):
    edit_json(copy / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(BaseModelUnavailable, match="quantised already") as caught:
        load(copy)
    assert "gptq" in str(caught.value)
    assert "int8" in str(caught.value)


def test_context_of_a_model_with_changing_frequencies_is_its_original_one(copy):
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 16}
    edit_json(copy / "config.json", rope_parameters=rope, original_max_position_embeddings=16)
    assert load_text_side(copy).context_tokens == 16
