"""What `helm test` runs in its pod, against a fleet whose pods do not all know a prompt yet; a server here stands for them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "charts" / "softprompt" / "files" / "ask.py"
NOTHING, COLOURS = {"data": []}, {"data": [{"id": "colours"}]}
ANSWER = {"model": "colours", "choices": [{"text": " red"}]}


@contextmanager
def fleet(*replies: tuple[str, int, dict]) -> Iterator[str]:
    """A server that expects these requests, one after the other, and gives these replies; its URL."""
    left = list(replies)

    class Handler(BaseHTTPRequestHandler):
        def _reply(self):
            path, status, body = left.pop(0)
            assert self.path == path
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_GET = do_POST = _reply

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
    assert left == [], "it asked less"


def run(url: str, prompt: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"FLEET": url, "PROMPT": prompt, "INPUT": "ruby"}
    return subprocess.run([sys.executable, str(PROGRAM)], env=environment, capture_output=True, text=True, timeout=60)


def test_a_pod_that_is_late_is_waited_for():
    """The first pod has nothing yet; the second offers the prompt; the third, which is asked, lacks it; then all are whole."""
    late = ("/v1/models", 200, NOTHING), ("/v1/models", 200, COLOURS), ("/v1/completions", 404, {})
    for prompt in ("colours", ""):
        with fleet(*late, ("/v1/models", 200, COLOURS), ("/v1/completions", 200, ANSWER)) as url:
            done = run(url, prompt)
        assert (done.returncode, done.stderr) == (0, "")
        assert "colours says ' red' to 'ruby'" in done.stdout


def test_what_no_waiting_helps_is_said_at_once():
    with fleet(("/v1/models", 404, {})) as url:
        done = run(url, "colours")
    assert (done.returncode, done.stderr) == (1, "/v1/models answered 404: {}\n")
    with fleet(("/v1/models", 200, COLOURS), ("/v1/completions", 503, {"error": "full"})) as url:
        done = run(url, "colours")
    assert (done.returncode, done.stderr) == (1, '/v1/completions answered 503: {"error": "full"}\n')
