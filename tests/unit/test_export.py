"""Exports: each is what the stock reader of its format takes, and says the same there; what a format cannot carry is refused."""

import json

import numpy as np
import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from typer.testing import CliRunner

from softprompt.artifact import PromptFile
from softprompt.base_model import load_base_model
from softprompt.cli import app
from softprompt.engine.encoding import TextEncoder
from softprompt.engine.head import Head
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.strategy import choose_strategy
from softprompt.errors import FingerprintMismatch, InvalidRequest
from softprompt.export import ExportedBase, export_prompt
from tests.builders import prompt_file
from tests.stock import random_prompt

TEMPLATE = "Thing: {text}\nColour:"
VALUES = {"text": "a ruby"}


def prompt_for(directory, kind="shallow", num_tokens=4, dtype="float32"):
    """A random prompt for the base in a directory."""
    base, manifest = load_base_model(directory), prompt_file().manifest
    return PromptFile.build(
        random_prompt(base, kind, num_tokens).numpy(),
        dtype=dtype,
        **{name: getattr(manifest, name) for name in ("task", "answers", "max_new_tokens")},
        template=TEMPLATE,
        template_examples=TextEncoder(base.text, TEMPLATE).examples(),
        base_fingerprint=base.fingerprint,
    )


def exported(directory, export_format, out, **options):
    file = prompt_for(directory, **options)
    return file, export_prompt(file, export_format, out, ExportedBase.of(directory.as_uri(), file))


@torch.no_grad()
def our_logits(directory, file):
    """Logits `[V]` of the first answer token behind the filled template; None: the bare base's."""
    base = load_base_model(directory)
    prompt = SoftPrompt(torch.from_numpy(file.values)) if file else None
    strategy = choose_strategy(base, prompt.kind if prompt else None)
    ids = torch.tensor([TextEncoder(base.text, TEMPLATE).input_ids(VALUES)])
    return Head(base)(strategy.start(strategy.prefix(prompt), ids)[0])[0]


def assert_says_the_same(directory, file, theirs):
    mine = our_logits(directory, file)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert (mine - our_logits(directory, None)).abs().max() > 0.1, "a prompt without influence would prove nothing"


def token_ids(directory):
    """By the stock tokenizer."""
    return AutoTokenizer.from_pretrained(directory)(TEMPLATE.format(**VALUES), return_tensors="pt").input_ids


class TestPeft:
    """`--format peft`; every family and kind is in test_peft_checkpoint.py, by the same files."""

    @pytest.mark.parametrize(("kind", "dtype"), [("shallow", "float32"), ("deep", "float32"), ("deep", "bfloat16")])
    def test_stock_peft_finds_the_base_by_itself_and_says_the_same(self, tmp_path, llama_directory, kind, dtype):
        file, written = exported(llama_directory, "peft", tmp_path / "peft", kind=kind, dtype=dtype)
        assert [path.name for path in written] == ["adapter_config.json", "adapter_model.safetensors"]
        model = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "peft")).eval()
        ids = token_ids(llama_directory)
        with torch.no_grad():
            theirs = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        assert_says_the_same(llama_directory, file, theirs)

    @pytest.mark.parametrize(
        ("uri", "name", "revision"),
        [
            ("hf://org/name@abc", "org/name", "abc"),
            ("s3://bucket/base", "s3://bucket/base", None),
            ("file:///a%20b", "/a b", None),
        ],
    )
    def test_the_base_is_named_as_transformers_names_it(self, tmp_path, uri, name, revision):
        export_prompt(prompt_file(), "peft", tmp_path / "out", ExportedBase(uri, is_encoder_decoder=False))
        config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["revision"]) == (name, revision)


class TestTgis:
    """`--format tgis`. `read_as_tgis` checks what the prompt cache of IBM/text-generation-inference does (docs/formats.md)."""

    @staticmethod
    def read_as_tgis(store, prefix_id, *, hidden_size, encoder_decoder=False, max_length=100, dtype=torch.float16):
        folder = store / prefix_id
        assert "adapter_model" not in {path.stem for path in folder.iterdir()}, "TGIS would take it for PEFT's"
        found = {}
        for name in ("decoder", "encoder"):
            if (folder / f"{name}.pt").is_file():
                prefix = torch.load(folder / f"{name}.pt", weights_only=True, map_location="cpu")
                assert torch.is_tensor(prefix)
                assert prefix.ndim == 2
                assert 0 < len(prefix) <= max_length
                assert not encoder_decoder or len(prefix) % 2 == 0
                assert prefix.shape[1] == hidden_size
                assert prefix.to(dtype).isfinite().all()
                found[name] = prefix
        assert encoder_decoder or "decoder" in found
        return found

    def test_the_matrix_before_the_embedded_text_says_the_same(self, tmp_path, llama_directory):
        file, written = exported(llama_directory, "tgis", tmp_path / "prefixes" / "colours")
        assert [path.name for path in written] == ["decoder.pt"]
        rows = self.read_as_tgis(tmp_path / "prefixes", "colours", hidden_size=32)["decoder"]
        assert np.array_equal(rows.numpy(), file.values)
        model = AutoModelForCausalLM.from_pretrained(llama_directory).eval()
        with torch.no_grad():
            text = model.get_input_embeddings()(token_ids(llama_directory))
            theirs = model(inputs_embeds=torch.cat([rows[None], text], dim=1)).logits[0, -1]
        assert_says_the_same(llama_directory, file, theirs)

    def test_a_prompt_of_an_encoder_decoder_model_stands_before_the_encoders_text(self, tmp_path, t5_directory):
        file, written = exported(t5_directory, "tgis", tmp_path / "colours")
        assert [path.name for path in written] == ["encoder.pt"]
        rows = self.read_as_tgis(tmp_path, "colours", hidden_size=32, encoder_decoder=True)["encoder"]
        model = AutoModelForSeq2SeqLM.from_pretrained(t5_directory).eval()
        with torch.no_grad():
            text = model.get_input_embeddings()(token_ids(t5_directory))
            inputs = {"inputs_embeds": torch.cat([rows[None], text], dim=1), "decoder_input_ids": torch.zeros(1, 1).long()}
            theirs = model(**inputs).logits[0, -1]
        mine = our_logits(t5_directory, file)
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
        assert (mine - our_logits(t5_directory, None)).abs().max() > 1e-3

    def test_what_tgis_refuses_is_refused_here(self, tmp_path, t5_directory, llama_directory):
        with pytest.raises(InvalidRequest, match="even length"):
            exported(t5_directory, "tgis", tmp_path / "odd", num_tokens=5)
        with pytest.raises(InvalidRequest, match="prefix id"):
            exported(llama_directory, "tgis", tmp_path / "a name.v1")
        assert list(tmp_path.iterdir()) == []


class TestVllm:
    """`--format vllm`. vLLM itself does not install here; its examples put stock transformers embeddings into `prompt_embeds`."""

    def test_a_client_that_follows_the_guide_says_the_same(self, tmp_path, llama_directory):
        from safetensors.torch import load_file

        file, written = exported(llama_directory, "vllm", tmp_path / "vllm")
        assert [path.name for path in written] == ["prompt_embeds.json", "prompt_embeds.safetensors"]
        guide = json.loads((tmp_path / "vllm" / "prompt_embeds.json").read_text())
        tokenizer, model = AutoTokenizer.from_pretrained(llama_directory), AutoModelForCausalLM.from_pretrained(llama_directory)
        for example in guide["template_examples"]:
            assert tokenizer(guide["template"].replace("{text}", example["values"]["text"])).input_ids == example["token_ids"]
        rows = load_file(tmp_path / "vllm" / guide["tensor"]["file"])[guide["tensor"]["name"]]
        assert list(rows.shape) == guide["tensor"]["shape"]
        ids = tokenizer(guide["template"].format(**VALUES), return_tensors="pt").input_ids
        with torch.no_grad():
            embeds = torch.cat([rows, model.eval().get_input_embeddings()(ids)[0]])
            assert embeds.shape == (4 + ids.shape[1], 32), "what vLLM's docs call (sequence_length, hidden_size)"
            theirs = model(inputs_embeds=embeds[None]).logits[0, -1]
        assert_says_the_same(llama_directory, file, theirs)
        assert (guide["prompt"], guide["base"]["fingerprint"]) == (file.digest, file.manifest.base_fingerprint)
        assert [answer["label"] for answer in guide["answers"]] == ["red", "blue"]

    def test_an_encoder_decoder_model_is_refused(self, tmp_path, t5_directory):
        with pytest.raises(InvalidRequest, match="decoder-only"):
            exported(t5_directory, "vllm", tmp_path / "out")


@pytest.mark.parametrize("export_format", ["tgis", "vllm"])
def test_a_deep_prompt_is_refused_by_name_with_the_reason_and_what_to_do(tmp_path, llama_directory, export_format):
    with pytest.raises(InvalidRequest, match=f"The format {export_format} cannot carry a deep prompt: .*embeddings") as caught:
        exported(llama_directory, export_format, tmp_path / "out", kind="deep")
    assert "2 layers" in caught.value.actual
    assert "--format peft" in caught.value.hint
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


class TestCommand:
    """`softprompt export`."""

    def invoke(self, tmp_path, *arguments):
        environment = {"SOFTPROMPT_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
        return CliRunner().invoke(app, ["export", *map(str, arguments)], env=environment)

    @pytest.mark.parametrize("export_format", ["peft", "tgis", "vllm"])
    def test_writes_files_and_says_which(self, tmp_path, llama_directory, export_format):
        prompt_for(llama_directory).write(tmp_path / "prompt")
        out = tmp_path / "out"
        result = self.invoke(tmp_path, tmp_path / "prompt", "--format", export_format, "--out", out, "--base", llama_directory)
        assert result.exit_code == 0, result.output
        assert all(str(path) in result.output for path in out.iterdir())
        assert len(list(out.iterdir())) == len(result.output.splitlines())

    def test_what_is_wrong_ends_with_2_and_a_sentence(self, tmp_path, llama_directory):
        prompt_for(llama_directory).write(tmp_path / "prompt")
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").touch()
        wrong = {
            "there is no such prompt": ["nobody", "--format", "peft", "--out", tmp_path / "out"],
            "something at the place": [tmp_path / "prompt", "--format", "peft", "--out", tmp_path / "full"],
            "fingerprintmismatch": [tmp_path / "prompt", "--format", "peft", "--out", tmp_path / "out"],
            "gguf": [tmp_path / "prompt", "--format", "gguf", "--out", tmp_path / "out"],
        }
        for told, arguments in wrong.items():
            result = self.invoke(tmp_path, *arguments)
            assert result.exit_code == 2, result.output
            assert told in result.output.lower()
        assert not (tmp_path / "out").exists()


def test_another_base_than_the_prompts_own_is_refused(llama_directory):
    with pytest.raises(FingerprintMismatch):
        ExportedBase.of(llama_directory.as_uri(), prompt_file())
