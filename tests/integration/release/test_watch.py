"""The reconciler as a process of its own: it follows a remote, says how it is, survives what fails, and ends when told."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from softprompt.embedded.s3 import embedded_s3
from tests.image_packages import only_packages_of
from tests.ports import free_port
from tests.promotion import Promotion, a_prompt
from tests.runs import SOFTPROMPT
from tests.servers import mlflow_server

PATIENCE_SECONDS = 90.0


def get(port, path="/readyz"):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, "{}"


def wait_for(port, condition, process):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the reconciler ended"
        status, body = get(port)
        if condition(status, json.loads(body)):
            return json.loads(body)
        time.sleep(0.3)
    raise AssertionError(f"not within {PATIENCE_SECONDS} s: {get(port)}")


@pytest.mark.slow
def test_a_reconciler_follows_a_remote_until_it_is_told_to_end(tmp_path, registry, monkeypatch):
    with embedded_s3(tmp_path / "s3") as server:
        place = Promotion.begin(tmp_path / "place", server.environment(), registry, monkeypatch.setenv)
        version, port = place.register(1), free_port()
        command = [SOFTPROMPT, "release", "apply", "--channel", "staging", "--watch", "--remote", f"file://{place.remote}"]
        command += ["--interval", "1", "--port", str(port)]
        log = (tmp_path / "log").open("w")
        process = subprocess.Popen(command, env=os.environ | place.environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            seen = wait_for(port, lambda status, body: status == 200, process)
            assert (seen["generation"], seen["drift"], seen["proposals"]) == (2, False, 1), "the policy's number formats"

            place.run("propose", "greeting", version, "--channel", "staging", "--repository", place.repository)
            commit = place.merge_to_main(f"promote/staging/greeting-{version}")
            seen = wait_for(port, lambda _, body: body.get("generation") == 3, process)
            assert (seen["commit"], seen["outcome"], seen["problems"]) == (commit, "published", [])
            assert place.serves() == [(a_prompt(1).digest, 1)]
            assert place.aliases() == {"staging": version}

            hidden = place.remote.rename(tmp_path / "hidden.git")
            seen = wait_for(port, lambda status, _: status == 503, process)
            assert "git fetch did not work" in seen["error"]
            hidden.rename(place.remote)
            wait_for(port, lambda status, _: status == 200, process)

            found = get(port, "/metrics")[1]
            assert 'softprompt_release_generation{channel="staging"} 3.0' in found
            assert 'softprompt_release_drift{channel="staging"} 0.0' in found
            assert 'softprompt_release_failures_total{channel="staging",reason="GitUnavailable"}' in found

            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
            process.wait()
            log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0].startswith("following main for channel staging; health on http://127.0.0.1:")
    assert lines[-1] == "ended"
    assert len(lines) < 20, "what is not news is not told"


def test_a_reconciler_needs_nothing_that_its_image_lacks(place, tmp_path):
    """No torch, no ray, no MLflow server, nothing else that infra/images/release.txt does not bring."""
    version, port = place.register(1), free_port()
    place.run("propose", "greeting", version, "--channel", "staging", "--repository", place.repository)
    place.merge_to_main(f"promote/staging/greeting-{version}")
    limited = only_packages_of("release", tmp_path)
    command = [SOFTPROMPT, "release", "apply", "--channel", "staging", "--watch", "--remote", f"file://{place.remote}"]
    command += ["--interval", "1", "--port", str(port)]
    with mlflow_server(tmp_path, place.settings.tracking_uri, str(tmp_path / "artifacts")) as uri:
        environment = os.environ | place.environment | limited | {"MLFLOW_TRACKING_URI": uri}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.STDOUT)
        try:
            seen = wait_for(port, lambda _, body: body.get("generation") == 2 and not body.get("problems"), process)
            assert seen["outcome"] == "published"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
            process.wait()
    assert place.serves() == [(a_prompt(1).digest, 1)]
    assert place.aliases() == {"staging": version}
    probe = subprocess.run([sys.executable, "-c", "import torch"], env=os.environ | limited, capture_output=True, text=True)
    assert "No module named 'torch'" in probe.stderr, "the limit is one"
