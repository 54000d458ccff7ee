"""What people get wrong, end to end through the command line: the exit code, one clear message, no stack trace, no long wait."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from softprompt.fingerprint import fingerprint
from tests.builders import colour_rows, save_llama, write_jsonl, write_recipe
from tests.runs import softprompt

REFUSES = "http://127.0.0.1:1"
AWAY = {
    "SOFTPROMPT_STORE": "s3://softprompt",
    "AWS_ENDPOINT_URL": REFUSES,
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
PATIENCE_SECONDS = 150
"""Less than MLflow retries by default, more than a busy machine needs; an idle one needs five."""


@dataclass(frozen=True)
class Place:
    """A folder with a good recipe, dataset and base, to be spoilt."""

    folder: Path
    home: Path
    base: Path

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.yaml"

    @property
    def rows(self) -> Path:
        return self.folder / "rows.jsonl"

    def change(self, old: str, new: str) -> None:
        """Spoil the recipe."""
        text = self.recipe.read_text()
        assert text.count(old) == 1
        self.recipe.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One state folder for all: a refused run leaves nothing that the next one trips over."""
    return tmp_path_factory.mktemp("state") / "home"


@pytest.fixture
def place(tmp_path, home, llama_directory):
    rows = write_jsonl(tmp_path / "rows.jsonl", colour_rows())
    write_recipe(tmp_path / "recipe.yaml", llama_directory, rows)
    return Place(tmp_path, home, llama_directory)


def refused(*arguments: object, home: Path, code: int, error: str, **more: str) -> str:
    """Run a command that must be refused; returns what it said, for the asserts about its words."""
    began = time.monotonic()
    result = softprompt(*arguments, home=home, **more)
    said = result.stderr
    assert result.returncode == code, result.stdout + said
    assert said.splitlines()[0] == error
    assert "Traceback" not in result.stdout + said
    assert time.monotonic() - began < PATIENCE_SECONDS
    return said


def fact(said: str, name: str) -> str:
    """The line of a message that says `where`, `expected`, `actual` or `to do`."""
    (found,) = [line.split(":", 1)[1].strip() for line in said.splitlines() if line.startswith(f"  {name}:")]
    return found


def test_a_dataset_that_is_not_there(place):
    place.rows.unlink()
    said = refused("run", place.recipe, home=place.home, code=3, error="DatasetRefused")
    assert "The dataset is not there." in said
    assert fact(said, "where") == str(place.rows)
    assert "dataset.uri" in fact(said, "to do")


def test_an_empty_dataset(place):
    place.rows.write_text("")
    said = refused("run", place.recipe, home=place.home, code=3, error="DatasetRefused")
    assert "not one usable row" in said
    assert fact(said, "where") == place.rows.as_uri()
    assert fact(said, "actual") == "0 usable rows"


def test_a_row_without_the_column_is_named_and_the_report_lists_it(place):
    rows = colour_rows()
    del rows[2]["colour"]
    write_jsonl(place.rows, rows)
    said = refused("run", place.recipe, home=place.home, code=3, error="DatasetRefused")
    assert "rows.jsonl:3  no column 'colour'; there are 'text'" in said
    assert fact(said, "actual") == "149 usable rows"
    folder = fact(said, "to do").partition("the run are in ")[2].rstrip(".")
    (report,) = Path(folder).glob("*/validate-dataset/dataset_report")
    assert "rows.jsonl:3" in report.read_text()


def test_a_label_that_only_the_evaluation_rows_have(place):
    write_jsonl(place.folder / "test.jsonl", [*colour_rows(40), {"text": "lemon number 900", "colour": "yellow"}])
    place.change("  target_column: colour\n", "  target_column: colour\n  test_uri: test.jsonl\n  split: {test: 0.0}\n")
    said = refused("run", place.recipe, home=place.home, code=3, error="DatasetRefused")
    assert "Labels that no training row has: yellow. Add training rows for them, or remove these rows." in said
    assert "test.jsonl:41" in said


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ("num_tokens", "num_token", "prompt.num_token", "unknown key; did you mean num_tokens?"),
        ("at_least: 0.01", "at_least: .nan", "gates.0.at_least", "should be a valid number"),
        ("steps: 6,", "steps: six,", "training.steps", 'should be a valid integer, got "six"'),
        ("warmup_steps: 1", "warmup_steps: 9", "training", "warmup_steps (9) must be below steps (6)"),
        (
            "type: classification",
            "type: generation",
            "gates.0.metric",
            "accuracy does not exist for a generation; use exact_match",
        ),
        ("{text}", "{text} {colour}", "task.template", "contains the answer itself, column 'colour'"),
        ("name: colours\n", "", "name", "is missing"),
    ],
    ids=["typo", "NaN", "wrong type", "warm-up after the end", "metric of another task", "answer in the input", "no name"],
)
def test_a_key_of_the_recipe_is_wrong(place, old, new, key, words):
    place.change(old, new)
    said = refused("run", place.recipe, home=place.home, code=2, error="InvalidRecipe")
    line = next(line for line in said.splitlines() if f"{place.recipe}:" in line)
    assert f": {key}: " in line
    assert words in line
    assert "softprompt schema" in fact(said, "to do")


def test_a_key_that_stands_twice(place):
    place.change("channel: laptop\n", "channel: laptop\nname: again\n")
    said = refused("run", place.recipe, home=place.home, code=2, error="InvalidRecipe")
    assert fact(said, "where") == f"{place.recipe}:4"
    assert 'duplicate key "name"' in fact(said, "actual")


def test_a_wrong_recipe_is_refused_before_anything_starts(place, tmp_path):
    place.change("num_tokens", "num_token")
    refused("run", place.recipe, home=tmp_path / "untouched", code=2, error="InvalidRecipe")
    assert not (tmp_path / "untouched").exists()


def test_an_override_that_makes_the_recipe_impossible(place):
    said = refused("run", place.recipe, "--kind", "medium", home=place.home, code=2, error="InvalidRecipe")
    assert "prompt.kind" in said
    assert "medium" in said


def test_a_recipe_that_is_not_there(place):
    said = refused("run", "nowhere.yaml", home=place.home, code=2, error="InvalidRecipe")
    assert fact(said, "where") == "nowhere.yaml"
    assert "demo" in fact(said, "expected")


def test_a_base_model_that_is_not_there(place):
    missing = place.folder / "no-base"
    said = refused("run", place.recipe, "--base-model", missing.as_uri(), home=place.home, code=2, error="BaseModelUnavailable")
    assert fact(said, "where") == str(missing)
    assert "config.json" in fact(said, "expected")
    assert "base_model.uri" in fact(said, "to do")


def test_a_base_model_with_pickled_weights_only(place):
    pickled = shutil.copytree(place.base, place.folder / "pickled")
    (pickled / "model.safetensors").unlink()
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    said = refused("run", place.recipe, "--base-model", pickled.as_uri(), home=place.home, code=2, error="BaseModelUnavailable")
    assert "pickle" in said
    assert (fact(said, "expected"), fact(said, "actual")) == ("*.safetensors", "pytorch_model.bin")
    assert "safe_serialization=True" in fact(said, "to do")


def test_a_prompt_that_leaves_no_room_for_the_text(place):
    said = refused("run", place.recipe, "--num-tokens", "60", home=place.home, code=3, error="DatasetRefused")
    assert "150 rows do not fit: the base model's context of 64 tokens less 60 prompt tokens leaves 4" in said
    assert "lower prompt.num_tokens" in said
    assert "rows.jsonl:1  " in said


def test_an_s3_endpoint_that_refuses_is_found_before_the_training(place, passed_run):
    policies = {"SOFTPROMPT_POLICIES": str(passed_run.home / "environments")}
    trust = {"SOFTPROMPT_TRUST_ROOT": str(passed_run.home / "trust" / "root.json")}
    said = refused("run", place.recipe, home=place.folder / "home", code=5, error="StoreUnavailable", **AWAY, **policies, **trust)
    assert REFUSES in fact(said, "where")
    assert "s3://softprompt" in fact(said, "where")
    assert "Could not connect" in fact(said, "actual")
    assert "AWS_ENDPOINT_URL" in fact(said, "to do")


def test_a_dataset_on_an_s3_endpoint_that_refuses(place):
    arguments = ("--estimate", "--dataset", "s3://bucket/rows.jsonl")
    said = refused("run", place.recipe, *arguments, home=place.home, code=5, error="StoreUnavailable", **AWAY)
    assert fact(said, "where") == "s3://bucket/rows.jsonl"
    assert "Could not connect" in fact(said, "actual")


def test_a_tracking_server_that_is_away_is_found_before_the_training(place):
    said = refused("run", place.recipe, home=place.home, code=5, error="TrackingUnavailable", MLFLOW_TRACKING_URI=REFUSES)
    assert fact(said, "where") == REFUSES
    assert "refused" in fact(said, "actual")
    assert "MLFLOW_TRACKING_URI" in fact(said, "to do")


class TestAsk:
    """`softprompt ask` where a good prompt is served."""

    def ask(self, run, *arguments, code=2, error, **more):
        return refused("ask", "ruby number 1", *arguments, home=run.home, code=code, error=error, **more)

    def test_on_another_base_model(self, passed_run, tmp_path):
        other = save_llama(tmp_path / "other", seed=1)
        arguments = ("--prompt", "colours", "--base-model", other.as_uri())
        said = self.ask(passed_run, *arguments, error="FingerprintMismatch")
        assert "colours" in fact(said, "where")
        assert fact(said, "expected") == passed_run.summary.base_fingerprint
        assert fact(said, "actual") == fingerprint(other)
        assert "tune the prompt" in fact(said, "to do")

    def test_for_a_prompt_that_the_channel_does_not_serve(self, passed_run):
        said = self.ask(passed_run, "--prompt", "colour", error="UnknownPrompt")
        assert fact(said, "expected") == "one of colours"
        assert fact(said, "actual") == "colour"

    def test_on_a_channel_that_does_not_exist(self, passed_run):
        said = self.ask(passed_run, "--prompt", "colours", "--channel", "production", error="InvalidRequest")
        assert "production" in fact(said, "where")

    def test_where_nothing_was_published_yet(self, tmp_path):
        said = refused("ask", "ruby", "--prompt", "colours", home=tmp_path / "home", code=2, error="UnknownPrompt")
        assert "publish one first" in fact(said, "expected")

    def test_when_the_store_is_away_and_this_machine_has_no_copy(self, passed_run, tmp_path):
        trust = {"SOFTPROMPT_TRUST_ROOT": str(passed_run.home / "trust" / "root.json")}
        said = refused(
            "ask", "ruby", "--prompt", "colours", home=tmp_path / "home", code=5, error="StoreUnavailable", **AWAY, **trust
        )
        assert REFUSES in said

    def test_with_columns_that_the_template_does_not_have(self, passed_run):
        text = json.dumps({"subject": "ruby"})
        said = refused("ask", text, "--prompt", "colours", home=passed_run.home, code=2, error="InvalidRequest")
        assert "text" in said
        assert "subject" in said


def test_status_where_no_channel_was_ever_begun(tmp_path):
    said = refused("status", home=tmp_path / "home", code=2, error="InvalidRequest", **AWAY)
    assert "trust root" in said
    assert "softprompt demo" in fact(said, "to do")
