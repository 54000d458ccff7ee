"""A small job on a tiny base, so that loops run in milliseconds."""

import pytest

from softprompt.data.validate import validate_dataset
from softprompt.resolve import resolve_recipe
from softprompt.tuning.job import Job
from tests.builders import colour_rows, write_jsonl, write_recipe


@pytest.fixture(scope="session")
def resolved(tmp_path_factory, llama_directory):
    """The colours recipe, resolved."""
    folder = tmp_path_factory.mktemp("recipe")
    rows = write_jsonl(folder / "colours.jsonl", colour_rows())
    return resolve_recipe(str(write_recipe(folder / "recipe.yaml", llama_directory, rows)))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory, resolved):
    """Its dataset artifact; tests read it."""
    folder = tmp_path_factory.mktemp("validated")
    validate_dataset(resolved, folder / "dataset", folder / "dataset.html")
    return folder / "dataset"


@pytest.fixture
def job(resolved, dataset):
    """Everything to train it with."""
    return Job.load(resolved, dataset)
