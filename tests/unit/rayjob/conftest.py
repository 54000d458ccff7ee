"""A request, its files, and the deployment's settings."""

import functools

import pytest

from softprompt.rayjob.manifest import Plan
from softprompt.rayjob.settings import RayJobSettings
from softprompt.resolve import resolve_recipe
from softprompt.step_request import StepRequest
from tests.variations import resolved_with

OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "step-1", "uid": "uid-1"}


@functools.cache
def demo():
    return resolve_recipe("demo")


@pytest.fixture
def ask():
    """A function: step, workers -> a request of the demo's recipe."""

    def request(step="tune_prompt", num_workers=2):
        resolved = resolved_with(demo(), num_workers=num_workers)
        return StepRequest(step=step, resolved=resolved, tracking_uri="http://mlflow", run_id="r1", checkpoints="s3://b/c")

    return request


@pytest.fixture
def plan():
    """A function: changes -> a plan."""

    def make(**changes):
        defaults = {
            "name": "tune-prompt-0123abcd-000000000000",
            "owner": OWNER,
            "image": "registry.example/steps@sha256:00",
            "step": "tune_prompt",
            "run": "0123abcd-4567",
            "workers": (2, 2),
            "arguments": ("s3://b/c", "tune-prompt-0123abcd-000000000000", "f" * 64),
            "settings": RayJobSettings(),
        }
        return Plan(**defaults | changes)

    return make
