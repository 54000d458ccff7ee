"""`softprompt ui`: MLflow's pages on the laptop's state, and nothing left behind when it ends."""

import signal
import subprocess
import time
import urllib.request

from tests.ports import free_port
from tests.runs import SOFTPROMPT, environment, processes_of, softprompt


def test_the_server_ends_with_the_command_when_that_is_terminated(tmp_path):
    """Ctrl-C is what the test of README's commands does."""
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    (home / "mlflow.db").touch()
    command = [SOFTPROMPT, "ui", "--port", str(port), "--no-open"]
    with subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert str(port) in process.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as reply:
            assert reply.status == 200
        assert len(processes_of(home)) <= 4, "the command, MLflow and its one worker"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    end = time.monotonic() + 10
    while processes_of(home) and time.monotonic() < end:
        time.sleep(0.2)
    assert not processes_of(home)


def test_without_a_run_it_says_what_to_do(tmp_path):
    done = softprompt("ui", "--no-open", home=tmp_path / "home")
    assert done.returncode == 2
    assert "softprompt demo" in done.stderr
