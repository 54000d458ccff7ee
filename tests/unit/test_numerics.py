"""Number formats: one list of names, kind errors where one is wrong, and what loading makes of a base."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from softprompt.base_model import load_base_model
from softprompt.engine.head import Head
from softprompt.errors import BaseModelUnavailable, InvalidRecipe, InvalidRequest
from softprompt.numerics import FORMATS, NUMERICS, ComputeFormat, Numerics, parse_numerics
from softprompt.quantised import FrozenLinear
from softprompt.recipe.reader import read_recipe
from softprompt.release.planning.policy import read_policy
from softprompt.resolve import resolve_recipe
from tests.builders import write_jsonl, write_recipe

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "softprompt"


def test_there_is_one_list():
    assert get_args(Numerics) == NUMERICS == tuple(FORMATS)
    assert {kind.compute for kind in FORMATS.values()} == set(get_args(ComputeFormat))
    schema = json.loads((CHART / "values.schema.json").read_text())
    base = schema["properties"]["serving"]["properties"]["baseModel"]["properties"]
    assert tuple(base["dtype"]["enum"]) == NUMERICS


@pytest.mark.parametrize("file", [CHART / "values.yaml", CHART / "README.md", ROOT / "docs" / "serving.md"], ids=str)
def test_documents_name_them_all(file):
    assert all(f"`{name}`" in file.read_text() for name in NUMERICS)


def test_a_name_that_there_is_not():
    assert [parse_numerics(name, "--dtype") for name in NUMERICS] == list(NUMERICS)
    with pytest.raises(InvalidRequest) as caught:
        parse_numerics("int3", "--dtype")
    assert all(part in str(caught.value) for part in ("--dtype", "int3", *NUMERICS))


def recipe_text(folder, base, dtype):
    text = write_recipe(folder / "recipe.yaml", base, write_jsonl(folder / "rows.jsonl", [])).read_text()
    changed = re.sub(r"base_model:.*", f"base_model: {{uri: {base.as_uri()}, dtype: {dtype}}}", text)
    assert changed != text
    return changed


def test_a_recipe_with_a_wrong_one_is_told_the_names(tmp_path, llama_directory):
    for name in NUMERICS:
        assert read_recipe(recipe_text(tmp_path, llama_directory, name), source="test").base_model.dtype == name
    with pytest.raises(InvalidRecipe) as caught:
        read_recipe(recipe_text(tmp_path, llama_directory, "int3"), source="test")
    assert all(part in str(caught.value) for part in ("dtype", "int3", *NUMERICS))


def test_a_policy_with_a_wrong_one_is_told_the_names(tmp_path):
    file = tmp_path / "live" / "_policy.yaml"
    file.parent.mkdir()
    file.write_text(f"schema_version: 1\nauthority: git\nnumerics: [{', '.join(NUMERICS)}]\n")
    assert read_policy(tmp_path, "live").numerics == NUMERICS
    file.write_text("schema_version: 1\nauthority: git\nnumerics: [int8, int3]\n")
    with pytest.raises(InvalidRequest) as caught:
        read_policy(tmp_path, "live")
    assert all(part in str(caught.value) for part in ("numerics", "int3", *NUMERICS))


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_base_is_what_its_number_format_says(numerics, family, request):
    directory = request.getfixturevalue(f"{family}_directory")
    plain, base = load_base_model(directory), load_base_model(directory, dtype=numerics)
    assert base.fingerprint == plain.fingerprint, "it is that of the files"
    assert base.num_parameters == plain.num_parameters
    assert base.model.dtype == getattr(torch, FORMATS[numerics].compute)
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    Head(base)
    layers = {name: layer for name, layer in base.model.named_modules() if isinstance(layer, FrozenLinear)}
    assert bool(layers) == (numerics == "int8")
    assert not any("head" in name for name in layers)
    for name, layer in layers.items():
        there = plain.model.get_submodule(name).weight
        assert layer.weight.qdata.dtype == torch.int8
        step = there.abs().amax(dim=1, keepdim=True) / 127.5
        rounding = there.abs() * 2**-8  # bfloat16's, before
        assert ((layer.weight.dequantize(torch.float32) - there).abs() <= step / 2 * 1.01 + rounding).all()


def test_quantised_weights_without_the_package_for_them(tmp_path, llama_directory, monkeypatch):
    monkeypatch.setattr("softprompt.base_model.find_spec", lambda _: None)
    assert load_base_model(llama_directory, dtype="bfloat16")
    for ask in (
        lambda: load_base_model(llama_directory, dtype="int8"),
        lambda: resolve_recipe(recipe_text(tmp_path, llama_directory, "int8")),
    ):
        with pytest.raises(BaseModelUnavailable, match="torchao, which is not installed") as caught:
            ask()
        assert "pip install 'softprompt[quantised]'" in str(caught.value)


def test_what_is_said_on_import_of_torchao_stays_unsaid(llama_directory):
    load = f"import pathlib, softprompt.base_model as b; b.load_base_model(pathlib.Path({str(llama_directory)!r}), dtype='int8')"
    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_linear_layers_are_torchs_own_where_nothing_is_quantised(llama_directory):
    model = load_base_model(llama_directory, dtype="bfloat16").model
    assert {type(layer) for layer in model.modules() if isinstance(layer, nn.Linear)} == {nn.Linear}
