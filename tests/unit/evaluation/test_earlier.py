"""An earlier dataset's test rows are answered as the present ones are; another file than at the run's beginning is refused."""

import json
import shutil

import pytest

from softprompt.data.dataset import read_part
from softprompt.engine.predictor import Predictor
from softprompt.errors import DatasetRefused, VerificationFailed
from softprompt.evaluation.systems.base_system import BaseSystem
from softprompt.evaluation.systems.earlier import earlier_rows
from softprompt.resolve import resolve_recipe
from tests.builders import colour_rows
from tests.unit.evaluation.test_systems import Scene


@pytest.fixture
def here(tmp_path, llama_directory):
    last_month = Scene(tmp_path / "last-month", llama_directory, rows=colour_rows(240)[120:])
    here = Scene(tmp_path / "now", llama_directory)
    content = here.resolved.recipe.model_dump(mode="json")
    content["evaluation"]["earlier"] = str(last_month.dataset)
    here.resolved, here.last_month = resolve_recipe(json.dumps(content, indent=1)), last_month
    return here


def test_its_rows_are_answered(here):
    found = here.observe().earlier
    assert found.rows == here.last_month.rows
    assert found.rows != here.rows
    soft = BaseSystem.of_file(here.base, here.file)
    expected = Predictor(here.base, soft.task, soft.prompt).predict([row.inputs for row in found.rows])
    assert found.answers.outputs == tuple(one.output for one in expected)


def test_without_one_there_is_nothing(here):
    assert here.observe(earlier=None).earlier is None


def test_it_must_be_what_it_was_when_the_run_began(here):
    shutil.copy(here.dataset / "test.parquet", here.last_month.dataset / "test.parquet")
    with pytest.raises(VerificationFailed, match="changed since the run began"):
        here.observe()


def test_rows_of_another_task_are_refused(here):
    with pytest.raises(DatasetRefused, match="cannot be asked") as caught:
        earlier_rows(here.resolved.earlier, ("text", "subject"))
    assert "no subject" in str(caught.value)
    assert read_part(here.last_month.dataset, "test") == earlier_rows(here.resolved.earlier, ("text",))
