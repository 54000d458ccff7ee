"""`resolve_recipe` through KFP's local runner: every default filled in, every reference a digest."""

from softprompt.data.dataset import read_manifest
from softprompt.fetch import file_sha256
from softprompt.fingerprint import fingerprint
from softprompt.resolve import ResolvedRecipe


def resolved(run):
    return ResolvedRecipe.from_bytes(run.output("resolve_recipe", "resolved_recipe").read_bytes(), source="output")


def test_the_output_is_the_recipe_with_digests_in_place_of_names(passed_run):
    found = resolved(passed_run)
    assert found.base.uri == passed_run.base.as_uri()
    assert found.base.fingerprint == fingerprint(passed_run.base)
    assert found.dataset.sha256 == file_sha256(passed_run.recipe.with_name("colours.jsonl"))
    assert found.source == str(passed_run.recipe)


def test_defaults_are_filled_in(passed_run):
    recipe = resolved(passed_run).recipe
    assert recipe.prompt.init.method == "frequent_tokens"
    assert recipe.evaluation.instruction == "What colour? {text}\nColour:"
    assert recipe.training.num_workers == 1


def test_the_champion_is_what_the_channel_serves_when_the_run_begins(passed_run, run_after_kill):
    assert resolved(passed_run).champion == ""
    assert resolved(run_after_kill).champion == passed_run.summary.prompt


def test_drift_is_measured_against_the_dataset_of_the_champion(passed_run, run_after_kill):
    assert resolved(passed_run).reference is None, "nothing was served before"
    profile = read_manifest(passed_run.output("validate_dataset", "dataset")).profile
    found = resolved(run_after_kill).reference
    assert found.sha256 == profile.digest
    assert found.uri == f"s3://softprompt/blobs/sha256/{profile.digest}"
