"""A node answers with what its channel serves, never with anything else."""

import time

import pytest
import torch
from fastapi.testclient import TestClient

from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.errors import FingerprintMismatch, ServiceUnavailable, VerificationFailed
from softprompt.serving.app import create_app
from softprompt.serving.bank import PromptBank
from softprompt.serving.follower import Follower, UnknownPrompt
from softprompt.serving.scheduler import BatchEngine


def expected(channel, prompt, text):
    task = EncodedTask.of_manifest(channel.base.text, prompt.manifest)
    soft = SoftPrompt(torch.from_numpy(prompt.values))
    return Predictor(channel.base, task, soft, max_new_tokens=prompt.manifest.max_new_tokens).predict([{"text": text}])[0]


def follower(channel) -> Follower:
    return Follower(channel.reader(), channel.base.fingerprint)


def test_a_name_means_what_was_published_last(channel):
    one, two = channel.prompt(seed=1), channel.prompt(seed=2)
    channel.publish("colours", one)
    following = follower(channel)
    assert following.route("colours").digest == one.digest
    generation = channel.publish("colours", two)
    assert following.route("colours").digest == one.digest, "a request sees one generation until the node looks again"
    following.refresh()
    assert following.route("colours").digest == two.digest
    assert following.snapshot.generation == generation
    assert following.route(f"colours@sha256:{two.digest}").digest == two.digest


@pytest.mark.parametrize("error", [VerificationFailed("A signature is wrong."), ServiceUnavailable("S3 is away.")])
def test_a_look_that_fails_leaves_what_is_served(channel, monkeypatch, error):
    channel.publish("colours", channel.prompt())
    following = follower(channel)
    before = following.snapshot
    monkeypatch.setattr(following._reader, "refresh", raising(error))
    following.refresh()
    assert following.snapshot is before


def raising(error):
    def raise_it():
        raise error

    return raise_it


def test_polling_goes_on_after_a_fault_of_ours(channel):
    """A node whose polling ended in silence would serve yesterday's prompts until somebody noticed."""
    channel.publish("colours", channel.prompt())
    following, looks = follower(channel), []

    def refresh():
        looks.append(len(looks))
        if len(looks) == 1:
            raise RuntimeError("a fault of ours")

    following.refresh = refresh
    with TestClient(create_app(following, PromptBank(channel.base), BatchEngine(channel.base), poll_seconds=0.01)):
        end = time.monotonic() + 5
        while len(looks) < 3 and time.monotonic() < end:
            time.sleep(0.01)
    assert len(looks) >= 3


def test_unknown_names_and_digests_are_refused(channel):
    channel.publish("colours", channel.prompt())
    following = follower(channel)
    for model in ("other", "colours@sha256:" + "0" * 64, "COLOURS", "", "colours@", "../colours"):
        with pytest.raises(UnknownPrompt):
            following.route(model)


def test_a_prompt_of_another_base_is_refused_by_name(channel):
    channel.publish("colours", channel.prompt(base_fingerprint="1" * 64))
    with pytest.raises(FingerprintMismatch) as caught:
        follower(channel).route("colours")
    assert "1" * 64 in str(caught.value)
    assert channel.base.fingerprint in str(caught.value)


@pytest.fixture
def client(channel):
    channel.publish("colours", channel.prompt(seed=1))
    channel.publish("free", channel.prompt(seed=2, task="generation"))
    with TestClient(
        create_app(follower(channel), PromptBank(channel.base), BatchEngine(channel.base), poll_seconds=0.05)
    ) as client:
        yield client


def test_models_are_the_names_of_the_channel(client):
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["colours", "free"]


def test_classify_gives_the_label_and_probabilities_with_the_prompts_identity(client, channel):
    reply = client.post("/v1/classify", json={"model": "colours", "input": "ruby"})
    alone = expected(channel, channel.prompt(seed=1), "ruby")
    assert reply.json()["label"] == alone.output
    assert sum(reply.json()["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert reply.headers["x-softprompt-digest"] == f"sha256:{channel.prompt(seed=1).digest}"
    assert reply.headers["x-softprompt-generation"] == "3"


def test_completions_generate(client, channel):
    reply = client.post("/v1/completions", json={"model": "free", "prompt": "ruby"})
    assert reply.json()["choices"][0]["text"] == expected(channel, channel.prompt(seed=2, task="generation"), "ruby").output
    assert reply.json()["object"] == "text_completion"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/classify", {"model": "other", "input": "x"}, 404),
        ("/v1/completions", {"model": "base", "prompt": "x"}, 404),
        ("/v1/classify", {"model": "free", "input": "x"}, 400),
        ("/v1/classify", {"model": "colours", "input": {"other": "x"}}, 400),
        ("/v1/classify", {"model": "colours", "input": "long " * 200}, 400),
        ("/v1/classify", {"model": "colours", "input": ""}, 422),
        ("/v1/completions", {"model": "free", "prompt": "x", "prompt_embeds": [1.0]}, 422),
    ],
)
def test_what_cannot_be_answered_is_said_and_never_answered_by_the_bare_base(client, path, body, status):
    reply = client.post(path, json=body)
    assert reply.status_code == status
    assert "Traceback" not in reply.text


def test_a_node_swaps_without_a_restart(client, channel):
    new = channel.prompt(seed=9)
    channel.publish("colours", new)
    for _ in range(100):
        reply = client.post("/v1/classify", json={"model": "colours", "input": "ruby"})
        assert reply.status_code == 200
        if reply.headers["x-softprompt-digest"].endswith(new.digest):
            break
    else:
        pytest.fail("the new prompt was never served")
    assert client.get("/readyz").json()["generation"] == 4
    assert client.get("/livez").status_code == 200
