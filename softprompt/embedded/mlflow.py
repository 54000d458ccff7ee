"""MLflow's web interface over the laptop's own database, on loopback, until it is interrupted."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable

from softprompt.errors import InvalidRequest, ServiceUnavailable
from softprompt.settings import Settings

NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Else seven processes wait for jobs that nobody starts here."""
START_SECONDS = 60.0


def serve_ui(settings: Settings, port: int, *, open_browser: bool, tell: Callable[[str], None]) -> None:
    """Start `mlflow ui` for the laptop's state and stay until Ctrl-C.

    Args:
        settings: Names the tracking database; a server that runs elsewhere is only named, not started.
        port: On 127.0.0.1.
        open_browser: Whether to open the page.
        tell: Receives lines for a person.

    Raises:
        InvalidRequest: There is no run yet.
        ServiceUnavailable: It did not start, for example because the port is taken.
    """
    if settings.tracking_uri.startswith("http"):
        tell(f"The registry is at {settings.tracking_uri}")
        return
    if not (settings.home / "mlflow.db").exists():
        raise InvalidRequest("There is nothing to show yet.", where=str(settings.home), hint="Run `softprompt demo` first.")
    url = f"http://127.0.0.1:{port}"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ending this command ends the server, however it is ended
    server = subprocess.Popen(
        _command(settings, port), env=os.environ | NO_JOBS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(server, url)
        tell(f"MLflow is at {url} (Ctrl-C ends it)")
        if open_browser:
            webbrowser.open(url)
        server.wait()
    except KeyboardInterrupt:
        tell("stopped")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def _command(settings: Settings, port: int) -> list[str]:
    artifacts = (settings.run_artifacts or settings.home).as_uri()
    options = ["--backend-store-uri", settings.tracking_uri, "--default-artifact-root", artifacts]
    return [sys.executable, "-m", "mlflow", "server", *options, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def _wait(server: "subprocess.Popen[bytes]", url: str) -> None:
    """Until the server answers as MLflow does."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2).close()  # noqa: S310  # our own loopback address
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise ServiceUnavailable(
        "MLflow's web interface did not start.", where=url, hint="Is the port taken? Choose another with --port."
    )
