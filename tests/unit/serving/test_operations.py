"""What an operator relies on: tokens over HTTP, refusals that say when to come again, metrics, traces, logs."""

import asyncio
import json
import logging
import secrets
import threading
import time
from functools import partial

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from softprompt.release.store import open_store
from softprompt.serving.http.app import create_app
from softprompt.serving.jobs import Finished, NewToken
from softprompt.serving.limits import Limits
from softprompt.serving.logs import JsonLines, Readable
from softprompt.serving.numbers import EngineNumbers
from softprompt.serving.tracing import Tracing
from tests.serving_node import StatedChannel, name, node_of, server_of
from tests.unit.serving.test_access import write
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def channel(tmp_path_factory, s3_server, llama_directory):
    from softprompt.base_model import load_base_model

    folder = tmp_path_factory.mktemp("operations")
    channel = StatedChannel(
        folder, open_store(f"s3://softprompt/{folder.name}", s3_server.access), load_base_model(llama_directory)
    )
    prompt = channel.prompt(1, task="classification")
    channel.state({f"prompt-{number}": name(prompt) for number in range(50)})
    return channel


def test_fifty_tokens_and_fifty_prompts_over_http_each_pair_as_it_is_written(channel, tmp_path):
    """By listing, and by asking one that is allowed and one that is not for every fifth token."""
    import random

    draw, names = random.Random(3), [f"prompt-{number}" for number in range(50)]
    allowed = {secrets.token_hex(16): sorted(draw.sample(names, draw.randint(1, 49))) for _ in range(50)}
    write(tmp_path / "tokens.yaml", {token: json.dumps(found) for token, found in allowed.items()})
    tokens = tmp_path / "tokens.yaml"
    with (
        node_of(channel, tokens=tokens, base_name="base:tiny") as node,
        server_of(node) as url,
        httpx.Client(base_url=url) as client,
    ):
        for token, may in list(allowed.items())[::5]:
            bearer = {"authorization": f"Bearer {token}"}
            assert [entry["id"] for entry in client.get("/v1/models", headers=bearer).json()["data"]] == may
            assert [entry["id"] for entry in client.get("/v1/status", headers=bearer).json()["prompts"]] == may
            wrong = sorted(set(names) - set(may))[0]
            for model, status in ((may[0], 200), (wrong, 404), ("absent", 404), ("base:tiny", 404)):
                asked = client.post("/v1/classify", headers=bearer, json={"model": model, "input": "x"})
                assert asked.status_code == status
                assert client.get(f"/v1/models/{model}", headers=bearer).status_code == status
            refused = client.post("/v1/classify", headers=bearer, json={"model": wrong, "input": "x"}).json()
            absent = client.post("/v1/classify", headers=bearer, json={"model": "absent", "input": "x"}).json()
            assert json.dumps(refused).replace(f' {wrong}"', ' absent"') == json.dumps(absent)


def test_every_pair_of_fifty_tokens_and_fifty_prompts_is_asked(channel, tmp_path):
    """All 2,500, through the application itself."""
    import random

    draw, names = random.Random(4), [f"prompt-{number}" for number in range(50)]
    allowed = {secrets.token_hex(16): {one for one in names if draw.random() < 0.4} for _ in range(50)}
    write(tmp_path / "tokens.yaml", {token: json.dumps(sorted(found)) for token, found in allowed.items()})
    with node_of(channel, tokens=tmp_path / "tokens.yaml") as node:

        async def ask_all():
            transport = httpx.ASGITransport(create_app(node))
            wrong = []
            async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
                for token, may in allowed.items():
                    bearer = {"authorization": f"Bearer {token}"}
                    for model in names:
                        reply = await client.get(f"/v1/models/{model}", headers=bearer)
                        if reply.status_code != (200 if model in may else 404):
                            wrong.append((model, reply.status_code))
            return wrong

        assert asyncio.run(ask_all()) == []


@pytest.mark.parametrize("path", ["/v1/models", "/v1/status", "/metrics", "/v1/completions", "/v1/absent"])
def test_without_a_token_nothing_is_said(channel, tmp_path, path):
    write(tmp_path / "tokens.yaml", {"right": '["*"]'})
    with node_of(channel, tokens=tmp_path / "tokens.yaml") as node, server_of(node) as url:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic cmlnaHQ6"}):
            reply = httpx.post(f"{url}{path}", headers=headers) if "compl" in path else httpx.get(f"{url}{path}", headers=headers)
            assert reply.status_code == 401
            assert reply.headers["www-authenticate"] == "Bearer"
            assert "prompt-" not in reply.text
        for open_path in ("/", "/livez", "/readyz"):
            assert httpx.get(f"{url}{open_path}").status_code == 200


class SlowEngine:
    """Writes one token at a time, only when it is told to; for what happens while answers take their time."""

    def __init__(self) -> None:
        self.jobs, self.is_alive, self.numbers = [], True, EngineNumbers()

    def generate(self, job, on_event):
        ticket = Ticket(on_event)
        self.jobs.append(ticket)
        return ticket

    def rank(self, job):
        raise NotImplementedError


class Ticket:
    def __init__(self, on_event) -> None:
        self.on_event, self.cancelled = on_event, threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


@pytest.fixture
def slow(channel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    other = StatedChannel(
        folder, open_store(f"s3://softprompt/{folder.name}", channel.store._client and channel_access(channel)), channel.base
    )
    other.state({"free": name(other.prompt(1))})
    engine = SlowEngine()
    limits = Limits(max_rows=1, max_waiting=1, queue_seconds=0.3)
    with node_of(other, engine=engine, limits=limits) as node, server_of(node) as url:
        yield engine, url


def channel_access(channel):
    from softprompt.release.s3_client import S3Access

    return S3Access(
        endpoint_url=channel.store._client.meta.endpoint_url,
        region="us-east-1",
        access_key_id="softprompt",
        secret_access_key="softprompt",
    )


BODY = {"model": "free", "prompt": "ruby"}
soon = partial(wait_for, timeout_seconds=20, every_seconds=0.01)


def test_whoever_finds_no_place_is_told_when_to_come_again(slow):
    engine, url = slow
    replies = []
    callers = [
        threading.Thread(target=lambda: replies.append(httpx.post(f"{url}/v1/completions", json=BODY, timeout=30)))
        for _ in range(2)
    ]
    for caller in callers:
        caller.start()
    soon(lambda: engine.jobs, "a job is there")
    soon(lambda: replies, "a reply is there")
    assert replies[0].status_code == 429
    assert int(replies[0].headers["retry-after"]) >= 1
    assert replies[0].json()["error"]["code"] == "rate_limit_exceeded"
    engine.jobs[0].on_event(Finished("stop"))
    for caller in callers:
        caller.join()
    assert replies[1].status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_row(slow, stream):
    engine, url = slow
    with httpx.Client() as client:
        if stream:
            feed(engine, 70)
            with client.stream("POST", f"{url}/v1/completions", json=BODY | {"stream": True}) as reply:
                next(reply.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(f"{url}/v1/completions", json=BODY, timeout=0.3)
    assert engine.jobs[0].cancelled.wait(20)
    feed(engine, 70, 1)
    reply = httpx.post(f"{url}/v1/completions", json=BODY)
    assert reply.status_code == 200, "its place is free again"


def feed(engine, token: int, job: int = 0) -> None:
    """Once there is a job, one token and, but for the first job, the end."""

    def later():
        soon(lambda: len(engine.jobs) > job, "the next job is there")
        engine.jobs[job].on_event(NewToken(token, -1.0))
        if job:
            engine.jobs[job].on_event(Finished("stop"))

    threading.Thread(target=later).start()


def test_an_answer_that_fails_on_the_way_is_an_error_and_has_no_end(slow):
    from softprompt.errors import NotANumber
    from softprompt.serving.jobs import Failed

    engine, url = slow

    def later():
        soon(lambda: engine.jobs, "a job is there")
        engine.jobs[0].on_event(NewToken(70, -1.0))
        time.sleep(0.1)
        engine.jobs[0].on_event(Failed(NotANumber("ruby is not a number")))

    threading.Thread(target=later).start()
    with httpx.stream("POST", f"{url}/v1/completions", json=BODY | {"stream": True}, timeout=30) as reply:
        text = "".join(reply.iter_text())
    assert "server_error" in text
    assert "[DONE]" not in text
    assert "ruby" not in text
    import openai

    engine.jobs.clear()
    threading.Thread(target=later).start()
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client, pytest.raises(openai.APIError):
        list(client.completions.create(**BODY, stream=True))


def test_a_failure_before_the_first_token_of_a_stream_has_a_status(slow):
    from softprompt.errors import ServiceUnavailable
    from softprompt.serving.jobs import Failed

    engine, url = slow

    def later():
        soon(lambda: engine.jobs, "a job is there")
        engine.jobs[0].on_event(Failed(ServiceUnavailable("The engine has stopped.")))

    threading.Thread(target=later).start()
    reply = httpx.post(f"{url}/v1/completions", json=BODY | {"stream": True})
    assert (reply.status_code, reply.json()["error"]["type"]) == (503, "server_error")


def test_metrics_tell_the_pace_of_each_prompt(channel):
    with node_of(channel) as node, server_of(node) as url:
        httpx.post(f"{url}/v1/classify", json={"model": "prompt-7", "input": "x"})
        text = httpx.get(f"{url}/metrics").text
    for line in (
        'softprompt_answers_total{digest="',
        'softprompt_time_to_first_token_seconds_count{prompt="prompt-7"} 1.0',
        'softprompt_requests_total{path="/v1/classify",status="200"} 1.0',
        "softprompt_generation 2.0",
        "softprompt_stale 0.0",
        "softprompt_staleness_seconds ",
        "softprompt_cache_bytes ",
        "softprompt_engine_rows ",
        'softprompt_alarms_total{reason="envelope"} 0.0',
    ):
        assert line in text, line


def test_traces_go_on_from_the_clients_and_hold_no_texts(channel):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with node_of(channel) as node:

        async def ask():
            transport = httpx.ASGITransport(create_app(node, Tracing(provider)))
            async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
                parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
                body = {"model": "prompt-1", "input": "ruby-red"}
                return await client.post("/v1/classify", headers={"traceparent": parent}, json=body)

        assert asyncio.run(ask()).status_code == 200
    [span] = exporter.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert span.attributes["softprompt.prompt"] == "prompt-1"
    assert span.attributes["http.response.status_code"] == 200
    assert "ruby" not in span.to_json()


def test_log_lines_are_json_with_their_facts():
    record = logging.getLogger("softprompt.x").makeRecord(
        "softprompt.x", logging.INFO, "f", 1, "request", (), None, extra={"id": "a", "_clock": 1}
    )
    document = json.loads(JsonLines().format(record))
    assert (document["message"], document["id"], document["level"]) == ("request", "a", "info")
    assert set(document) == {"time", "level", "logger", "message", "id"}
    assert Readable().format(record).endswith("request id=a")
