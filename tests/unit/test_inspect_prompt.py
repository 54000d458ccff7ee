"""`softprompt inspect`: which prompt is meant, which rows are read, and what a wrong wish is told."""

import json

import pytest
from typer.testing import CliRunner

from softprompt.artifact import PromptFile
from softprompt.base_model import load_base_model
from softprompt.cli import app
from softprompt.data.validate import validate_dataset
from softprompt.engine.encoding import TextEncoder
from softprompt.engine.real_tokens import token_values
from softprompt.errors import DatasetRefused, FingerprintMismatch, InvalidRequest
from softprompt.inspect_prompt import find_prompt, inspect_named_prompt
from softprompt.inspection.inspection import Inspection
from softprompt.resolve import resolve_recipe
from softprompt.settings import Settings
from tests.builders import prompt_file, save_llama, write_jsonl, write_recipe

TEMPLATE = "Thing: {text}\nColour:"


def settings(home):
    return Settings.from_environment({"SOFTPROMPT_HOME": str(home)})


def fitting_prompt(directory, seed=70):
    """A prompt file for the base in a directory."""
    base = load_base_model(directory)
    manifest = prompt_file().manifest
    return PromptFile.build(
        token_values(base, [seed, 80, 90, 100], "shallow").numpy(),
        **{key: getattr(manifest, key) for key in ("task", "answers", "max_new_tokens")},
        template=TEMPLATE,
        template_examples=TextEncoder(base.text, TEMPLATE).examples(),
        base_fingerprint=base.fingerprint,
    )


def write_run(home, stamp, name, file, resolved=None):
    """What a finished run leaves behind, as far as an inspection looks at it."""
    folder = home / "runs" / stamp
    place = folder / f"prompt-tuning-{stamp}"
    place.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"name": name, "prompt": file.digest, "folder": "/elsewhere"}))
    (place / "tune-prompt").mkdir()
    file.write(place / "tune-prompt" / "prompt")
    if resolved:
        (place / "resolve-recipe").mkdir()
        (place / "resolve-recipe" / "resolved_recipe").write_bytes(resolved.to_bytes())
        validate_dataset(resolved, place / "validate-dataset" / "dataset", place / "dataset.html")
    return place


@pytest.fixture
def home(tmp_path):
    """Three runs: an old and a new one of `colours`, and the newest of `shapes`."""
    for seed, (stamp, name) in enumerate([("20260101", "colours"), ("20260102", "colours"), ("20260103", "shapes")]):
        write_run(tmp_path, stamp, name, prompt_file(seed=seed))
    return tmp_path


def digest_found(given, home):
    return PromptFile.read(find_prompt(given, home / "runs").directory).digest


def test_a_name_means_its_newest_run_and_nothing_the_newest_of_all(home):
    assert digest_found("colours", home) == prompt_file(seed=1).digest
    assert digest_found("", home) == prompt_file(seed=2).digest
    assert find_prompt("", home / "runs").name == "shapes"


@pytest.mark.parametrize("given", ["{}", "sha256:{}", "{:.12}"])
def test_a_digest_or_its_beginning_means_that_prompt(home, given):
    digest = prompt_file(seed=0).digest
    assert digest_found(given.format(digest), home) == digest


def test_a_directory_means_what_is_in_it(home, tmp_path):
    prompt_file(seed=9).write(tmp_path / "elsewhere")
    assert digest_found(str(tmp_path / "elsewhere"), home) == prompt_file(seed=9).digest


def test_a_wrong_name_is_told_which_ones_there_are(home):
    with pytest.raises(InvalidRequest) as caught:
        find_prompt("coulors", home / "runs")
    assert caught.value.where == "coulors"
    assert "colours, shapes" in caught.value.expected


def test_a_directory_without_a_prompt_is_told_what_is_missing(home, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest) as caught:
        find_prompt(str(tmp_path / "empty"), home / "runs")
    assert "manifest.json" in caught.value.actual


def test_where_nothing_was_run_yet_the_demo_is_named(tmp_path):
    with pytest.raises(InvalidRequest) as caught:
        find_prompt("", tmp_path / "runs")
    assert "softprompt demo" in caught.value.hint


@pytest.fixture
def tuned(tmp_path, llama_directory, colours):
    """A state folder with one run of the colours recipe, which knows its base and has rows."""
    resolved = resolve_recipe(str(write_recipe(tmp_path / "recipe.yaml", llama_directory, colours)))
    write_run(tmp_path, "20260104", "colours", fitting_prompt(llama_directory), resolved)
    return tmp_path


def test_a_copy_of_a_runs_prompt_is_known_again_and_a_stranger_is_not(tuned, tmp_path, llama_directory):
    fitting_prompt(llama_directory).write(tmp_path / "copy")
    fitting_prompt(llama_directory, seed=71).write(tmp_path / "stranger")
    copy, stranger = (find_prompt(str(tmp_path / name), tuned / "runs") for name in ("copy", "stranger"))
    assert copy.resolved.base.uri == llama_directory.as_uri()
    assert (stranger.resolved, stranger.dataset) == (None, None)


def test_a_run_knows_its_base_and_its_validation_rows_pay_the_attention(tuned, llama_directory):
    found = inspect_named_prompt(settings(tuned), "", num_rows=3)
    assert (found.name, found.base_uri) == ("colours", llama_directory.as_uri())
    assert (found.rows, found.num_rows) == ("validation rows of its run", 3)
    assert inspect_named_prompt(settings(tuned), "colours", num_rows=10_000).num_rows > 3


def test_a_person_who_waits_is_told_how_far_it_is(tuned):
    seen = []
    inspect_named_prompt(settings(tuned), "", num_rows=1, progress=lambda *done: seen.append(done))
    assert seen == [(320, 320)]


def test_a_files_rows_need_nothing_but_the_columns_of_the_template(tuned, tmp_path):
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a ruby", "unknown": "x"}, {"text": "grass"}])
    found = inspect_named_prompt(settings(tuned), "", dataset=str(rows))
    assert (found.rows, found.num_rows) == ("rows.jsonl", 2)
    assert inspect_named_prompt(settings(tuned), "", dataset=str(rows), num_rows=1).num_rows == 1


def test_a_file_without_these_columns_is_refused_with_what_it_has(tuned, tmp_path):
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"message": "a ruby"}])
    with pytest.raises(DatasetRefused) as caught:
        inspect_named_prompt(settings(tuned), "", dataset=str(rows))
    assert caught.value.expected == "columns text"
    assert "'message'" in caught.value.actual


def test_a_directory_from_elsewhere_needs_its_base_and_reads_its_manifests_examples(tmp_path, llama_directory):
    fitting_prompt(llama_directory).write(tmp_path / "prompt")
    found = inspect_named_prompt(settings(tmp_path), str(tmp_path / "prompt"), base_uri=str(llama_directory))
    assert (found.rows, found.num_rows) == ("the three examples of its manifest", 3)
    assert [tokens[0].token_id for tokens in found.compared[0].nearest] == [70, 80, 90, 100]


def test_another_base_than_its_own_is_refused(tuned, tmp_path):
    other = save_llama(tmp_path / "other", seed=1)
    with pytest.raises(FingerprintMismatch):
        inspect_named_prompt(settings(tuned), "", base_uri=str(other))


class TestCommand:
    """`softprompt inspect`."""

    def invoke(self, home, *arguments):
        return CliRunner().invoke(app, ["inspect", *map(str, arguments)], env={"SOFTPROMPT_HOME": str(home), "COLUMNS": "80"})

    def test_prints_and_writes_page_and_numbers(self, tuned, tmp_path):
        result = self.invoke(tuned, "colours", "--html", tmp_path / "page.html", "--json", tmp_path / "found.json")
        assert result.exit_code == 0, result.output
        assert "nearest tokens (cosine)" in result.output
        assert str(tmp_path / "page.html") in result.output.replace("\n", "")
        assert "<svg" in (tmp_path / "page.html").read_text()
        assert Inspection.from_bytes((tmp_path / "found.json").read_bytes(), source="test").name == "colours"

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["nobody"], "There is no such prompt"),
            (["colours", "--base", "embedded://base"], "FingerprintMismatch"),
            (["colours", "--base", "ftp://somewhere"], "scheme that is not known"),
            (["colours", "--html", "/nowhere/page.html"], "no such folder"),
            (["colours", "--rows", "0"], "--rows"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_what_is_wrong_ends_with_2_and_a_sentence(self, tuned, arguments, told):
        result = self.invoke(tuned, *arguments)
        assert result.exit_code == 2
        assert told in result.output
        assert "Traceback" not in result.output
