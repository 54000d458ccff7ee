"""A node follows its channel: what is good comes in, what is bad changes nothing, and nobody waits for either."""

import dataclasses
import time

import httpx
import pytest

from softprompt.artifact import TemplateExample
from softprompt.errors import FingerprintMismatch, InvalidRequest, ServiceUnavailable, SoftpromptError, VerificationFailed
from softprompt.release.store import open_store
from softprompt.serving.follower import Follower
from softprompt.serving.node import check_base_name
from softprompt.serving.routing import RevokedPrompt, UnknownPrompt
from tests.serving_node import Name, StatedChannel, name, node_of, server_of


@pytest.fixture(scope="module")
def base(llama_directory):
    from softprompt.base_model import load_base_model

    return load_base_model(llama_directory)


@pytest.fixture
def channel(tmp_path, s3_server, base):
    return StatedChannel(tmp_path, open_store(f"s3://softprompt/{tmp_path.name}", s3_server.access), base)


def follow(channel, **options) -> Follower:
    return Follower(channel.reader(), channel.base.fingerprint, **options)


def test_a_name_means_what_was_published_last(channel):
    one, two = channel.prompt(1), channel.prompt(2)
    channel.state({"colours": name(one)})
    following = follow(channel)
    assert following.route("colours").digest == one.digest
    generation = channel.state({"colours": name(two)})
    assert following.route("colours").digest == one.digest, "a request sees one generation until the node looks again"
    following.refresh()
    assert following.route("colours").digest == two.digest
    assert following.snapshot.generation == generation


def test_unknown_names_and_digests_are_refused(channel):
    channel.state({"colours": name(channel.prompt())})
    following = follow(channel)
    for model in ("other", "colours@sha256:" + "0" * 64, "COLOURS", "", "colours@", "../colours"):
        with pytest.raises(UnknownPrompt):
            following.route(model)


def test_what_a_caller_may_not_ask_looks_exactly_like_what_is_not_there(channel):
    channel.state({"colours": name(channel.prompt()), "secret": name(channel.prompt(1))})
    following = follow(channel)
    said = []
    for model in ("secret", "absent"):
        with pytest.raises(UnknownPrompt) as caught:
            following.route(model, may_ask=lambda asked: asked == "colours")
        said.append(str(caught.value).replace(model, "NAME"))
    assert said[0] == said[1]
    assert "secret" not in said[1]


def test_a_prompt_of_another_base_is_refused_by_name(channel):
    other = channel.prompt(1, base_fingerprint="1" * 64)
    state = channel.log  # a generation that names two bases, as while a fleet changes its base
    del state
    from softprompt.release.blobs import prompt_blobs
    from softprompt.release.statement import Approval, ChannelState, Served, Share

    mine = channel.prompt(2)
    approvals = {
        file.digest: Approval(prompt=file.digest, verdict="passed", numerics="float32", model_version="1", evidence={})
        for file in (mine, other)
    }
    prompts = {
        "colours": Served(bases={"1" * 64: (Share(prompt=other.digest),)}),
        "mine": Served(bases={channel.base.fingerprint: (Share(prompt=mine.digest),)}),
    }
    channel.publish(ChannelState(prompts=prompts, approvals=approvals), prompt_blobs(mine) | prompt_blobs(other))
    with pytest.raises(FingerprintMismatch) as caught:
        follow(channel).route("colours")
    assert "1" * 64 in str(caught.value)
    assert channel.base.fingerprint in str(caught.value)


def test_pinned_prompts_are_warm_before_a_generation_is_active(channel):
    one, two = channel.prompt(1), channel.prompt(2)
    channel.state({"colours": name(one, pinned=True), "other": name(channel.prompt(3))})
    with node_of(channel) as node:
        assert node.bank.is_warm(one.digest)
        assert node.bank.numbers.num_prompts == 1
        channel.state({"colours": name(two, pinned=True)})
        seen = []
        pin = node.follower._pin

        def watch(digests, snapshot):
            seen.append((node.follower.snapshot.generation, list(digests)))
            pin(digests, snapshot)

        node.follower._pin = watch
        node.follower.refresh()
        assert seen == [(2, [two.digest])], "while the old generation is still the one that is asked"
        assert node.follower.snapshot.generation == 3
        assert node.bank.is_warm(two.digest)


def test_a_pinned_prompt_that_cannot_be_warmed_keeps_the_old_generation_and_says_so(channel):
    good = channel.prompt(1)
    bad = channel.prompt(2, template_examples=(TemplateExample(values={"text": "a"}, token_ids=(5, 6)),))
    channel.state({"colours": name(good, pinned=True)})
    with node_of(channel) as node:
        channel.state({"colours": name(bad, pinned=True)})
        node.follower.refresh()
        assert node.follower.snapshot.generation == 2
        assert node.follower.route("colours").digest == good.digest
        assert node.follower.snapshot.stale
        assert [alarm.reason for alarm in node.follower.snapshot.alarms] == ["node"]
        assert b'softprompt_alarms_total{reason="node"} 1.0' in node.metrics.text()
        node.follower.refresh()
        assert b'softprompt_alarms_total{reason="node"} 1.0' in node.metrics.text(), "the same fault is counted once"
    with node_of(channel) as again:
        assert again.follower.snapshot.generation == 2, "nor did the bad one take the mark of the last good one"


@pytest.mark.parametrize(("allowed", "other"), [("bfloat16", "float32"), ("int8", "bfloat16"), ("float32", "int8")])
def test_a_channel_of_other_numerics_is_refused(channel, allowed, other):
    channel.state({"colours": name(channel.prompt())}, numerics=(allowed,))
    with pytest.raises(SoftpromptError, match="number format") as caught:
        follow(channel, numerics=other)
    assert f"--dtype {allowed}" in str(caught.value)
    follow(channel, numerics=allowed)


def test_revoked_prompts_are_refused_at_once_even_if_the_generation_that_says_so_cannot_be_activated(channel):
    good, revoked = channel.prompt(1), channel.prompt(2)
    bad = channel.prompt(3, template_examples=(TemplateExample(values={"text": "a"}, token_ids=(5, 6)),))
    channel.state({"colours": Name([(good, 1), (revoked, 1000)]), "gone": name(revoked)})
    with node_of(channel) as node:
        node.follower.route("gone")
        channel.state({"colours": name(bad, pinned=True)}, revoked=[revoked.digest])
        node.follower.refresh()
        assert node.follower.snapshot.generation == 2
        with pytest.raises(RevokedPrompt):
            node.follower.route("gone")
        with pytest.raises(RevokedPrompt):
            node.follower.route(f"colours@sha256:{revoked.digest}")
        assert {node.follower.route("colours").digest for _ in range(20)} == {good.digest}, "the rest of a canary answers"
        with server_of(node) as url:
            reply = httpx.post(f"{url}/v1/completions", json={"model": "gone", "prompt": "x"})
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_revoked")


def test_a_canary_stays_with_a_user_and_says_which_prompt_answered(channel):
    one, two = channel.prompt(1), channel.prompt(2)
    channel.state({"colours": Name([(one, 1), (two, 1)])})
    with node_of(channel) as node, server_of(node) as url, httpx.Client(base_url=url) as client:

        def ask(headers=None, **more):
            body = {"model": "colours", "prompt": "ruby", "max_tokens": 6} | more
            reply = client.post("/v1/completions", json=body, headers=headers or {})
            return reply.headers["x-softprompt-digest"].removeprefix("sha256:"), reply.json()["choices"][0]["text"]

        by_user = {user: {ask(user=user) for _ in range(3)} for user in map(str, range(12))}
        assert all(len(found) == 1 for found in by_user.values())
        digests = {digest: text for found in by_user.values() for digest, text in found}
        assert set(digests) == {one.digest, two.digest}
        for digest, text in digests.items():
            pinned = client.post("/v1/completions", json={"model": f"colours@sha256:{digest}", "prompt": "ruby", "max_tokens": 6})
            assert pinned.json()["choices"][0]["text"] == text, "the header names the prompt that spoke"
        assert len(set(digests.values())) == 2
        [(by_header, _)] = {ask({"x-softprompt-sticky": "5"}) for _ in range(3)}
        assert by_header == next(iter(by_user["5"]))[0], "the header says the same as the field"


def test_shadow_prompts_answer_afterwards_and_only_a_count_comes_of_it(channel):
    main, same, other = channel.prompt(1), channel.prompt(1, max_new_tokens=9), channel.prompt(2)
    channel.state({"colours": name(main, shadow=[same, other])})
    with node_of(channel) as node, server_of(node) as url:
        reply = httpx.post(f"{url}/v1/completions", json={"model": "colours", "prompt": "ruby"})
        assert reply.headers["x-softprompt-digest"].endswith(main.digest)
        wanted = [
            f'softprompt_shadow_answers_total{{digest="{prompt.digest[:12]}",outcome="{outcome}",prompt="colours"}} 1.0'
            for prompt, outcome in ((same, "agreed"), (other, "differed"))
        ]
        deadline = time.monotonic() + 20
        while not all(line in node.metrics.text().decode() for line in wanted):
            assert time.monotonic() < deadline, node.metrics.text().decode()
            time.sleep(0.02)
        assert f"sha256:{other.digest}" not in reply.text
        reply = httpx.post(f"{url}/v1/completions", json={"model": f"colours@sha256:{other.digest}", "prompt": "ruby"})
        assert reply.status_code == 404, "a shadow is not for asking"


def test_series_of_what_is_not_served_any_more_leave(channel):
    one, two = channel.prompt(1), channel.prompt(2)
    channel.state({"colours": name(one), "brief": name(one)})
    with node_of(channel, poll_seconds=0.05) as node, server_of(node) as url:
        with httpx.Client(base_url=url) as client:
            for model in ("colours", "brief"):
                assert client.post("/v1/completions", json={"model": model, "prompt": "x"}).status_code == 200
            assert 'prompt="brief"' in node.metrics.text().decode()
            for number in range(50):
                client.post("/v1/completions", json={"model": f"made-up-{number}", "prompt": "x"})
                client.get(f"/made/up/{number}")
        assert "made" not in node.metrics.text().decode(), "no label comes from a client"
        channel.state({"colours": name(two)})
        deadline = time.monotonic() + 20
        while node.follower.snapshot.generation < 3 or 'prompt="brief"' in (text := node.metrics.text().decode()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert one.digest[:12] not in text
        assert "softprompt_generation 3.0" in text


def test_a_node_swaps_without_a_restart_and_running_answers_keep_their_prompt(channel):
    one, two = channel.prompt(1), channel.prompt(2)
    channel.state({"colours": name(one)})
    with node_of(channel) as node, server_of(node) as url, httpx.Client(base_url=url, timeout=60) as client:
        body = {"model": "colours", "prompt": "ruby", "max_tokens": 40}
        alone = client.post("/v1/completions", json=body).json()["choices"][0]["text"]
        with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as stream:
            lines = stream.iter_lines()
            first = next(lines)
            channel.state({"colours": name(two)})
            node.follower.refresh()
            assert client.post("/v1/completions", json=body).headers["x-softprompt-digest"].endswith(two.digest)
            rest = [first, *lines]
        import json

        events = [json.loads(line[6:]) for line in rest if line.startswith("data: {")]
        assert "".join(event["choices"][0]["text"] for event in events) == alone
        assert stream.headers["x-softprompt-digest"].endswith(one.digest)
        assert stream.headers["x-softprompt-generation"] == "2"


@pytest.mark.parametrize("error", [VerificationFailed("A signature is wrong."), ServiceUnavailable("S3 is away.")])
def test_a_look_that_fails_leaves_what_is_served(channel, monkeypatch, error):
    channel.state({"colours": name(channel.prompt())})
    following = follow(channel)
    before = following.snapshot

    def fail(_):
        raise error

    monkeypatch.setattr(following._reader, "refresh", fail)
    following.refresh()
    assert following.snapshot is before


def test_polling_goes_on_after_a_fault_of_ours(channel, monkeypatch):
    """A node whose polling ended in silence would serve yesterday's prompts until somebody noticed."""
    channel.state({"colours": name(channel.prompt())})
    with node_of(channel, poll_seconds=0.01) as node:
        looks = []

        def refresh():
            looks.append(len(looks))
            if len(looks) == 1:
                raise RuntimeError("a fault of ours")

        monkeypatch.setattr(node.follower, "refresh", refresh)
        with server_of(node):
            end = time.monotonic() + 5
            while len(looks) < 3 and time.monotonic() < end:
                time.sleep(0.01)
        assert len(looks) >= 3


def test_ready_says_how_the_node_does_and_no_names(channel):
    channel.state({"secret-plan": name(channel.prompt(), pinned=True)})
    with node_of(channel) as node, server_of(node) as url:
        reply = httpx.get(f"{url}/readyz")
        assert (reply.status_code, reply.json()["status"], reply.json()["generation"]) == (200, "ready", 2)
        assert "secret" not in reply.text
        node.bank._warm.clear()
        assert httpx.get(f"{url}/readyz").status_code == 503
        assert httpx.get(f"{url}/livez").status_code == 200
        node.engine.close()
        assert httpx.get(f"{url}/livez").status_code == 503
        reply = httpx.post(f"{url}/v1/completions", json={"model": "secret-plan", "prompt": "x"})
        assert reply.status_code == 503, "an engine that ended answers nobody, and says so"


@pytest.mark.parametrize("given", ["base", "8b", "a-b"])
def test_the_bare_base_cannot_have_a_name_that_a_prompt_could_have(given):
    with pytest.raises(InvalidRequest, match="by accident"):
        check_base_name(given)
    assert check_base_name(f"base:{given}") == f"base:{given}"
    assert check_base_name("") == ""


def test_faults_of_the_node_are_not_the_clients(channel, monkeypatch):
    channel.state({"colours": name(channel.prompt())})
    with node_of(channel) as node, server_of(node) as url:
        monkeypatch.setattr(node.bank, "get", raising(InvalidRequest("A file cannot be written.", where="/var/lib/node")))
        reply = httpx.post(f"{url}/v1/completions", json={"model": "colours", "prompt": "x"})
        assert reply.status_code == 503
        assert "/var/lib" not in reply.text
        monkeypatch.setattr(node.bank, "get", raising(ZeroDivisionError("ruby in /secret")))
        reply = httpx.post(f"{url}/v1/completions", json={"model": "colours", "prompt": "x"})
        assert reply.status_code == 500
        assert "ruby" not in reply.text
        assert reply.headers["x-request-id"]


def raising(error: BaseException):
    def raise_it(*_):
        raise error

    return raise_it


def test_snapshots_compare_by_what_they_state(channel):
    channel.state({"colours": name(channel.prompt())})
    snapshot = follow(channel).snapshot
    assert dataclasses.replace(snapshot) == snapshot
    with pytest.raises(SoftpromptError):
        snapshot.load("0" * 64)
