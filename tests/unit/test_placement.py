"""Where a heavy step's work is done."""

import pytest

from softprompt import placement
from softprompt.errors import InvalidRequest
from softprompt.resolve import resolve_recipe
from softprompt.settings import Settings
from softprompt.step_request import StepRequest


@pytest.fixture
def done(monkeypatch):
    """A function: step, backends of run and deployment -> where it was done."""

    def go(step, asked, deployments=""):
        where = []
        monkeypatch.setattr("softprompt.step_work.do_work", lambda *_: where.append("here"))
        monkeypatch.setattr("softprompt.rayjob.run.run_on_rayjob", lambda *_, storage, **__: where.append(storage))
        request = StepRequest(step=step, resolved=resolve_recipe("demo"), tracking_uri="http://mlflow")
        environment = {"SOFTPROMPT_BACKEND": deployments, "SOFTPROMPT_CHECKPOINTS": "s3://b/c"}
        settings = Settings.from_environment(environment)
        placement.run_step(request, {}, {}, settings, asked, place="s3://a", task_config=None)
        return where

    return go


@pytest.mark.parametrize(
    ("asked", "deployments", "where"),
    [
        ("", "", "here"),
        ("", "rayjob", "s3://b/c"),
        ("local", "rayjob", "here"),
        ("rayjob", "local", "s3://b/c"),
    ],
)
def test_the_run_says_where_and_else_the_deployment(done, asked, deployments, where):
    assert done("tune_prompt", asked, deployments) == [where]


@pytest.mark.parametrize("step", ["validate_dataset", "evaluate_prompt"])
def test_a_step_whose_recipe_asks_for_no_ray_is_done_in_its_own_pod(done, step):
    assert done(step, "rayjob") == ["here"]


@pytest.mark.parametrize(("asked", "deployments"), [("Rayjob", ""), ("", "slurm")])
def test_any_other_backend_is_refused_by_its_name(done, asked, deployments):
    with pytest.raises(InvalidRequest, match="no such backend") as refusal:
        done("tune_prompt", asked, deployments)
    assert refusal.value.actual == asked or deployments
