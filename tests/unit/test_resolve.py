"""Resolution: everything that determines a run is in one document, and changes with what it stands for."""

import pytest

from softprompt.errors import BaseModelUnavailable, DatasetRefused, InvalidRecipe, VerificationFailed
from softprompt.fetch import fetch_prompt
from softprompt.fingerprint import fingerprint
from softprompt.resolve import Overrides, ResolvedRecipe, resolve_recipe
from tests.builders import RECIPE, colour_rows, write_jsonl, write_recipe


@pytest.fixture
def recipe(tmp_path, llama_directory, colours):
    return write_recipe(tmp_path / "recipe.yaml", llama_directory, "colours.jsonl")


def test_references_become_digests_and_paths_absolute(recipe, llama_directory, colours):
    resolved = resolve_recipe(str(recipe))
    assert resolved.base.fingerprint == fingerprint(llama_directory)
    assert resolved.dataset.uri == colours.as_uri()
    assert resolved.recipe.base_model.uri == llama_directory.as_uri()
    assert ResolvedRecipe.from_bytes(resolved.to_bytes(), source="x") == resolved


def test_a_uri_a_path_and_the_text_itself_say_the_same(recipe, llama_directory, colours):
    text = RECIPE.format(base=llama_directory, dataset=colours, kind="shallow", floor=0.01)
    found = [resolve_recipe(wish).recipe for wish in (str(recipe), recipe.as_uri(), text)]
    assert found[0] == found[1] == found[2]


def test_the_same_recipe_resolves_to_the_same_bytes_and_other_rows_to_others(recipe, colours):
    first = resolve_recipe(str(recipe))
    assert resolve_recipe(str(recipe)).to_bytes() == first.to_bytes()
    write_jsonl(colours, colour_rows(151))
    assert resolve_recipe(str(recipe)).digest != first.digest


def test_overrides_change_what_they_name_and_nothing_else(recipe):
    changed = resolve_recipe(
        str(recipe), Overrides(prompt_kind="deep", num_tokens=7, seed=0, channel="staging", prompt_name="other")
    )
    plain = resolve_recipe(str(recipe))
    assert (changed.recipe.prompt.kind, changed.recipe.prompt.num_tokens, changed.recipe.training.seed) == ("deep", 7, 0)
    assert (changed.recipe.channel, changed.recipe.name) == ("staging", "other")
    assert changed.recipe.task == plain.recipe.task
    assert changed.recipe.training == plain.recipe.training


def test_a_wrong_override_is_refused_like_a_wrong_key(recipe):
    with pytest.raises(InvalidRecipe, match=r"prompt\.kind"):
        resolve_recipe(str(recipe), Overrides(prompt_kind="loud"))


def test_what_a_recipe_refers_to_has_to_be_there(tmp_path, llama_directory, colours):
    with pytest.raises(DatasetRefused, match="not there"):
        resolve_recipe(str(write_recipe(tmp_path / "r.yaml", llama_directory, "missing.jsonl")))
    with pytest.raises(BaseModelUnavailable, match="no base model here"):
        resolve_recipe(str(write_recipe(tmp_path / "r.yaml", "missing", colours)))


@pytest.mark.parametrize("wish", ["no-such-recipe", "/no/such/file.yaml"])
def test_a_recipe_that_is_not_there_names_those_that_are(wish):
    with pytest.raises(InvalidRecipe, match="no such recipe") as caught:
        resolve_recipe(wish)
    assert "demo" in str(caught.value)


@pytest.mark.parametrize("name", ["demo", "demo-replies", "demo-faq", "demo-answers"])
def test_packaged_recipes_resolve_by_name(name):
    assert resolve_recipe(name).recipe.name


def test_numbers_survive_overrides_to_the_last_bit(tmp_path, llama_directory, colours):
    path = write_recipe(tmp_path / "r.yaml", llama_directory, colours)
    path.write_text(path.read_text().replace("steps: 6", "steps: 6, learning_rate: 1.0e-05"))
    assert resolve_recipe(str(path)).recipe.training.learning_rate == 1e-5


def test_a_prompt_to_start_from_is_named_absolutely_and_by_its_bytes(tmp_path, llama_directory):
    start = tmp_path / "start"
    start.mkdir()
    (start / "adapter_config.json").write_text("{}")
    recipe = write_recipe(tmp_path / "recipe.yaml", llama_directory, write_jsonl(tmp_path / "rows.jsonl", colour_rows()))
    text = recipe.read_text().replace("num_tokens: 4}", "num_tokens: 4, init: {method: prompt, uri: start}}")
    recipe.write_text(text.replace("steps: 6", "steps: 6, candidates: [{seed: 1}, {init: {method: prompt, uri: start}}]"))
    resolved = resolve_recipe(str(recipe))
    assert [found.uri for found in resolved.starts] == [start.as_uri()]
    assert resolved.recipe.prompt.init.uri == resolved.recipe.training.candidates[1].init.uri == start.as_uri()
    (start / "adapter_config.json").write_text("{ }")
    assert resolve_recipe(str(recipe)).digest != resolved.digest
    with pytest.raises(VerificationFailed, match="changed since the run began"):
        fetch_prompt(start.as_uri(), expected_sha256=resolved.starts[0].sha256)
    recipe.write_text(text.replace("uri: start", "uri: nowhere"))
    with pytest.raises(InvalidRecipe, match="not there"):
        resolve_recipe(str(recipe))
