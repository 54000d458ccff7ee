"""Rounds that fail are tried again, later each time; health and metrics say what happened."""

import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from softprompt.errors import StoreUnavailable
from softprompt.release.promotion.health import LONGEST_ROUND_SECONDS, Health, Seen, health_server
from softprompt.release.promotion.watch import LONGEST_WAIT_SECONDS, pause_seconds, watch

SEEN = Seen(outcome="unchanged", generation=7, commit="c" * 40, expires=1_800_000_000.0, num_proposals=2)
REFUSED = Seen(outcome="refused", generation=7, commit="d" * 40, expires=1_800_000_000.0, reasons=("no review",))


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def metrics(port):
    families = text_string_to_metric_families(get(port, "/metrics")[1].decode())
    found = {}
    for family in families:
        for sample in family.samples:
            labels = sorted(value for key, value in sample.labels.items() if key != "channel")
            found[" ".join([sample.name.removeprefix("softprompt_release_"), *labels])] = sample.value
            assert sample.labels["channel"] == "staging"
    return found


def rounds(*results):
    """A look that comes to each of these in turn, and then stops the watch."""
    stop, left = threading.Event(), list(results)

    def look():
        result = left.pop(0)
        if not left:
            stop.set()
        if isinstance(result, Exception):
            raise result
        return result

    return look, stop


def run(monkeypatch, *results):
    monkeypatch.setattr("softprompt.release.promotion.watch.pause_seconds", lambda *_: 0.0)
    look, stop = rounds(*results)
    health, told = Health("staging"), []
    watch(look, health, stop, interval_seconds=1, tell=told.append)
    return health, told


def test_before_the_first_round_it_is_alive_and_not_ready():
    with health_server(Health("staging"), "127.0.0.1", 0) as port:
        assert get(port, "/livez")[0] == 200
        assert get(port, "/readyz")[0] == 503
        assert get(port, "/elsewhere")[0] == 404
        assert metrics(port)["drift"] == 1


def test_a_round_that_succeeds_is_told_once_and_counted_each_time(monkeypatch):
    health, told = run(monkeypatch, SEEN, SEEN, SEEN)
    assert told == [f"generation 7 says what commit {'c' * 12} wants\n2 proposals of pipelines wait"]
    with health_server(health, "127.0.0.1", 0) as port:
        status, body = get(port, "/readyz")
        assert (status, json.loads(body)["generation"], json.loads(body)["drift"]) == (200, 7, False)
        found = metrics(port)
    assert (found["rounds_total unchanged"], found["generation"], found["proposals"], found["drift"]) == (3, 7, 2, 0)
    assert found["expires_timestamp_seconds"] == 1_800_000_000.0
    assert time.time() - found["last_success_timestamp_seconds"] < 60


def test_failures_are_counted_by_reason_and_do_not_end_it(monkeypatch):
    away = StoreUnavailable("The store is away.", where="s3://x")
    health, told = run(monkeypatch, away, away, KeyError("a fault of ours"), SEEN, away)
    assert [line.splitlines()[0] for line in told] == [
        "failed: The store is away.",
        "failed: KeyError: 'a fault of ours'",
        f"generation 7 says what commit {'c' * 12} wants",
        "failed: The store is away.",
    ]
    with health_server(health, "127.0.0.1", 0) as port:
        status, body = get(port, "/readyz")
        assert status == 503
        assert "The store is away." in json.loads(body)["error"]
        assert json.loads(body)["generation"] == 7, "what was seen last"
        found = metrics(port)
    assert (found["failures_total StoreUnavailable"], found["failures_total KeyError"], found["rounds_total failed"]) == (3, 1, 4)
    assert found["drift"] == 1, "nobody knows"


def test_a_refusal_is_drift_with_its_reasons_and_still_ready(monkeypatch):
    health, told = run(monkeypatch, REFUSED)
    assert told == [f"refused: commit {'d' * 12}; the channel stays at generation 7\n  no review"]
    with health_server(health, "127.0.0.1", 0) as port:
        status, body = get(port, "/readyz")
        assert (status, json.loads(body)["reasons"]) == (200, ["no review"])
        assert (metrics(port)["drift"], metrics(port)["failures_total Refused"]) == (1, 1)


def test_it_is_dead_when_no_round_has_ended_for_too_long():
    now = [1000.0]
    health = Health("staging", clock=lambda: now[0])
    now[0] += LONGEST_ROUND_SECONDS - 1
    assert health.livez()[0] == 200
    now[0] += 2
    assert health.livez()[0] == 503
    health.failed("StoreUnavailable", "away")
    assert health.livez()[0] == 200, "a failed round is a round"


def test_pauses_grow_to_a_limit_and_never_meet():
    plain = [pause_seconds(0, 30) for _ in range(200)]
    assert 24 <= min(plain) < 27 < 33 < max(plain) <= 36
    for failures, middle in ((1, 60), (3, 240), (10, LONGEST_WAIT_SECONDS), (10_000, LONGEST_WAIT_SECONDS)):
        pauses = [pause_seconds(failures, 30) for _ in range(50)]
        assert 0.8 * middle <= min(pauses) <= max(pauses) <= 1.2 * middle
    assert pause_seconds(3, 7200) >= 0.8 * 7200, "never shorter than the interval"


def test_being_told_to_stop_ends_a_pause_at_once():
    stop = threading.Event()
    thread = threading.Thread(
        target=watch, args=(lambda: SEEN, Health("staging"), stop), kwargs={"interval_seconds": 600, "tell": print}
    )
    thread.start()
    time.sleep(0.2)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_the_port_is_closed_afterwards():
    with health_server(Health("staging"), "127.0.0.1", 0) as port:
        get(port, "/livez")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=2)


def test_a_probe_that_gives_up_is_not_news(capfd):
    """The server finds the connection reset, in the middle of its answer or before it."""
    health = Health("staging")
    asked = threading.Event()

    def slow():
        asked.set()
        time.sleep(0.1)
        return 200, {"text": "x" * 1_000_000}

    health.readyz = slow
    with health_server(health, "127.0.0.1", 0) as port:
        with socket.create_connection(("127.0.0.1", port)) as probe:
            probe.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert asked.wait(5)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.3)
        assert get(port, "/livez")[0] == 200
    assert capfd.readouterr().err == ""
