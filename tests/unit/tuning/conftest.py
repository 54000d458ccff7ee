"""A small job on a tiny base, so that loops run in milliseconds."""

import pytest

from softprompt.data.validate import validate_dataset
from softprompt.resolve import resolve_recipe
from softprompt.tuning.job import Job
from tests.builders import write_recipe


@pytest.fixture
def resolved(tmp_path, llama_directory, colours):
    """The colours recipe, resolved."""
    return resolve_recipe(str(write_recipe(tmp_path / "recipe.yaml", llama_directory, colours)))


@pytest.fixture
def dataset(tmp_path, resolved):
    """Its dataset artifact."""
    validate_dataset(resolved, tmp_path / "dataset", tmp_path / "dataset.html")
    return tmp_path / "dataset"


@pytest.fixture
def job(resolved, dataset):
    """Everything to train it with."""
    return Job.load(resolved, dataset)
