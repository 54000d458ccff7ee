"""Requests made out of the interface's own description, right ones and wrong ones: a node answers each in its own form.

What may never happen, whatever is sent: a fault of ours, a stack trace, an answer of another prompt than the one that was asked
for, an answer of the bare base to anybody who did not ask for it by its name.
"""

import random

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode

from softprompt.base_model import load_base_model
from softprompt.embedded.s3 import embedded_s3
from softprompt.release.store import open_store
from softprompt.serving.limits import Limits
from tests.serving_node import StatedChannel, make_prompt, name, node_of, server_of, with_chat_template

BASE = "base:tiny"


@pytest.fixture(scope="module")
def prompts(llama_directory):
    base = with_chat_template(load_base_model(llama_directory))
    return base, {
        "labels": make_prompt(base, 1, task="classification", template="Thing: {text}\nColour:"),
        "free": make_prompt(base, 2, task="generation", template="Thing: {text}\nColour:"),
        "talk": make_prompt(base, 3, task="generation", template="{messages}"),
        "fields": make_prompt(base, 4, task="generation", template="A: {one} B: {two}\n"),
    }


@pytest.fixture(scope="module")
def node_url(prompts, tmp_path_factory):
    base, files = prompts
    folder = tmp_path_factory.mktemp("fuzz")
    with embedded_s3(folder / "s3") as server:
        channel = StatedChannel(folder, open_store("s3://softprompt/fuzz", server.access), base)
        channel.state({key: name(file) for key, file in files.items()})
        limits = Limits(max_body_bytes=20_000, max_new_tokens=16)
        with node_of(channel, base_name=BASE, limits=limits) as node, server_of(node) as url:
            yield url


@pytest.fixture(scope="module")
def description(node_url):
    return schemathesis.openapi.from_url(f"{node_url}/openapi.json")


def check(case, files) -> None:
    """Send one request and look at what comes back."""
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str) and random.random() < 0.8:
        case.body["model"] = random.choice([*files, BASE, f"free@sha256:{files['free'].digest}"])
    response = case.call(timeout=30)
    said = response.text
    assert response.status_code < 500, said
    assert "Traceback" not in said
    if response.status_code >= 400:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}, said
    elif case.method == "POST":
        model, digest = case.body["model"], response.headers.get("x-softprompt-digest")
        expected = None if model == BASE else f"sha256:{files[model.partition('@')[0]].digest}"
        assert digest == expected
        case.validate_response(response, excluded_checks=EXCLUDED)


schemathesis.checks.load_all_checks()
EXCLUDED = [
    # What cannot be done with a prompt depends on the prompt, so a body that fits the description may still be a 400.
    schemathesis.checks.CHECKS.get_one("positive_data_acceptance"),
    # Null is taken for a parameter that is not there, as OpenAI's clients send it.
    schemathesis.checks.CHECKS.get_one("negative_data_rejection"),
    schemathesis.checks.CHECKS.get_one("missing_required_header"),
    schemathesis.checks.CHECKS.get_one("ignored_auth"),
]


@pytest.mark.parametrize("examples", [8, pytest.param(1000, marks=pytest.mark.slow)])
def test_requests_of_every_kind_right_and_wrong(description, prompts, examples):
    phases = [hypothesis.Phase.generate] if examples < 100 else list(hypothesis.Phase)
    settings = hypothesis.settings(
        max_examples=examples, phases=phases, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    for operation in (found.ok() for found in description.get_all_operations()):
        modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if operation.method == "post" else (GenerationMode.POSITIVE,)
        for mode in modes:
            given = hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            settings(given(lambda case: check(case, prompts[1])))()
