"""Git, store and nodes beside each other: every difference is told, and nothing else."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rich.console import Console

from softprompt.cli.release_status import print_status
from softprompt.errors import InvalidRequest
from softprompt.release.layout import LIFE_SECONDS
from softprompt.release.promotion.node_reports import ask_nodes
from softprompt.release.promotion.status import channel_status
from tests.unit.release.promotion.test_reconciler import Repository

BASE = "ba5e" * 16


@contextmanager
def a_node(body, status=200):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status if self.path == "/readyz" else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def look(repository, *nodes, git=True, later=0.0):
    channel = repository.channel
    environments = repository.environments if git else None
    return channel_status(channel.log, environments, ask_nodes(nodes), now=channel.clock.now + later)


def shown(found):
    console = Console(width=160, no_color=True, force_terminal=False)
    with console.capture() as captured:
        print_status(found, console)
    return captured.get()


@pytest.fixture
def repository(channel, make_prompt):
    repository = Repository(channel)
    repository.commit(greeting=repository.propose(make_prompt(1)))
    repository.apply()
    return repository


def test_all_in_step(repository, make_prompt):
    digest = make_prompt(1).digest
    with a_node({"generation": 2, "stale": False, "prompts": 1, "alarms": 0}) as node:
        found = look(repository, node)
    assert found.drift == ()
    assert (found.commit, found.generation) == (repository.git("rev-parse", "HEAD"), 2)
    text = shown(found)
    row = next(line for line in text.splitlines() if line.startswith("greeting")).split()
    assert row == ["greeting", digest[:12], digest[:12], "greeting/1", "in", "step"]
    assert text.splitlines()[-1] == "all in step"


def test_what_git_wants_and_the_store_does_not_say(repository, make_prompt):
    repository.commit(greeting=repository.propose(make_prompt(2)), farewell=repository.propose(make_prompt(3), name="farewell"))
    first, second, third = (make_prompt(seed).digest[:12] for seed in (1, 2, 3))
    found = look(repository)
    assert found.drift[:2] == (
        f"farewell: Git wants {third}, the store says nothing",
        f"greeting: Git wants {second}, the store says {first}",
    )
    assert "is not published yet" in found.drift[2]
    assert "differs: greeting: Git wants" in shown(found)
    repository.apply()
    repository.commit(farewell=None)
    assert any("has no file in Git" in line for line in look(repository).drift)
    assert "(no file)" in shown(look(repository))


def test_weights_are_part_of_being_in_step(repository):
    path = repository.environments / "staging" / "greeting.yaml"
    repository.commit(greeting=path.read_text().replace("      model_version", "      weight: 7\n      model_version"))
    found = look(repository)
    assert found.drift[0] == "greeting: the same prompts, with other weights, shadows or pins"
    assert "differs" in next(line for line in shown(found).splitlines() if line.startswith("greeting"))


def test_a_commit_about_something_else_is_no_drift_and_an_older_checkout_is(repository, make_prompt):
    (repository.folder / "README.md").write_text("x")
    repository.commit()
    assert look(repository).drift == ()
    repository.commit(greeting=repository.propose(make_prompt(2)))
    repository.apply()
    repository.git("checkout", "-q", "HEAD~1")
    assert any("which this checkout does not follow: update it" in line for line in look(repository).drift)


def test_without_a_checkout_nobody_knows_what_git_wants(repository):
    found = look(repository, git=False)
    assert (found.drift, found.commit) == ((), "")
    assert "no checkout here" in shown(found)


def test_what_is_wrong_with_the_store(repository):
    found = look(repository, later=LIFE_SECONDS + 3600)
    assert any("generation 2 expired" in line for line in found.drift)
    repository.channel.store.put("channels/staging/000000000003.json", b"junk")
    assert any("1 objects above generation 2 do not verify" in line for line in look(repository).drift)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"generation": 1, "stale": False, "prompts": []}, 200, "serves generation 1, the store says 2"),
        ({"generation": 2, "stale": True, "prompts": ["greeting"]}, 200, "may be behind"),
        ({"generation": 2, "stale": False, "prompts": ["greeting"]}, 503, "not ready"),
        ({"generation": 2, "stale": False, "prompts": 1, "alarms": 3}, 200, "has 3 alarms"),
        ({"status": "ok"}, 200, "not a node's"),
        (b"<html>", 200, "not known"),
        (b"[" * 5_000_000, 200, "larger than it may be"),
    ],
)
def test_what_is_wrong_with_a_node(repository, body, status, reason):
    with a_node(body, status) as node:
        found = look(repository, node)
    assert len(found.drift) == 1
    assert found.drift[0].startswith(node)
    assert reason in found.drift[0]
    assert node in shown(found)


def test_a_node_that_is_away_is_told_and_the_others_are_still_asked(repository, make_prompt):
    with a_node({"generation": 2, "stale": False, "prompts": ["greeting"]}) as node:
        found = look(repository, "http://127.0.0.1:9", node)
    assert len(found.drift) == 1
    assert "http://127.0.0.1:9: not known" in found.drift[0]
    assert [report.generation for report in found.nodes] == [0, 2]


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "file:///etc/passwd", "http://"])
def test_only_addresses_of_http_are_asked(url):
    with pytest.raises(InvalidRequest, match="not the address of a node"):
        ask_nodes([url])


def test_it_travels_as_json(repository):
    found = look(repository)
    assert type(found).from_bytes(found.to_bytes(), source="x") == found
