"""Drift: what an earlier dataset is, where it is found, and that it is the one that was resolved."""

import pytest

from softprompt.data.dataset import fetch_profile, read_manifest
from softprompt.data.validate import validate_dataset
from softprompt.errors import VerificationFailed
from softprompt.resolve import ResolvedFile, resolve_recipe
from tests.builders import colour_rows, write_jsonl, write_recipe


@pytest.fixture
def earlier(tmp_path, llama_directory):
    """An artifact of the colours, and a function that validates other rows against it."""
    recipe = write_recipe(tmp_path / "recipe.yaml", llama_directory, write_jsonl(tmp_path / "rows.jsonl", colour_rows()))
    validate_dataset(resolve_recipe(str(recipe)), tmp_path / "earlier", tmp_path / "earlier.html")
    return tmp_path / "earlier"


def drifts(tmp_path, base, rows, *, reference=None):
    recipe = write_recipe(tmp_path / "later.yaml", base, write_jsonl(tmp_path / "later.jsonl", rows))
    if reference is None:
        recipe.write_text(recipe.read_text().replace("  target_column", "  reference: earlier\n  target_column"))
    resolved = resolve_recipe(str(recipe))
    if reference is not None:
        resolved = resolved.model_copy(update={"reference": reference})
    manifest = validate_dataset(resolved, tmp_path / "later", tmp_path / "later.html")
    return [found.message for found in manifest.findings if found.check == "drift"]


def test_equal_rows_have_not_drifted(tmp_path, llama_directory, earlier):
    assert drifts(tmp_path, llama_directory, colour_rows()) == []


def test_a_label_that_is_no_more_is_told(tmp_path, llama_directory, earlier):
    rows = [row for row in colour_rows() if row["colour"] != "green"]
    assert any("green" in said for said in drifts(tmp_path, llama_directory, rows))


def test_a_profile_by_itself_does_as_well(tmp_path, llama_directory, earlier):
    """The pipeline finds the champion's in its evidence, under its digest."""
    profile = read_manifest(earlier).profile
    (tmp_path / "blob").write_bytes(profile.to_bytes())
    reference = ResolvedFile(uri=(tmp_path / "blob").as_uri(), sha256=profile.digest)
    assert fetch_profile(reference) == profile
    rows = [row for row in colour_rows() if row["colour"] != "green"]
    assert any("green" in said for said in drifts(tmp_path, llama_directory, rows, reference=reference))


def test_another_than_was_resolved_is_refused(tmp_path, earlier):
    reference = ResolvedFile(uri=(earlier / "manifest.json").as_uri(), sha256="0" * 64)
    with pytest.raises(VerificationFailed, match="changed since the run began"):
        fetch_profile(reference)
