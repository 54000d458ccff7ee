"""Servers for tests: PostgreSQL, and MLflow on it. Each listens on loopback or a socket of its own, and ends with its test."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

UNPRIVILEGED = "nobody"
"""PostgreSQL does not run as root."""
START_SECONDS = 120.0


def postgresql_programs() -> Path | None:
    """The folder of `initdb` and `postgres`, if PostgreSQL is installed."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@contextmanager
def postgresql(programs: Path) -> Iterator[str]:
    """An empty database server on a socket that only this user reaches; gives an address for SQLAlchemy."""
    # Not in pytest's folder, which other users may not enter; the path of a socket is short, too.
    folder = Path(tempfile.mkdtemp(prefix="softprompt-pg-"))
    who = {"user": UNPRIVILEGED, "group": pwd.getpwnam(UNPRIVILEGED).pw_gid} if os.getuid() == 0 else {}
    if who:
        shutil.chown(folder, UNPRIVILEGED, pwd.getpwnam(UNPRIVILEGED).pw_gid)
    data, log = folder / "data", folder / "log"
    try:
        initdb = [
            programs / "initdb",
            "--pgdata",
            data,
            "--username",
            "mlflow",
            "--auth",
            "trust",
            "--no-sync",
            "--encoding",
            "UTF8",
        ]
        subprocess.run(initdb, cwd=folder, check=True, capture_output=True, **who)
        options = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off"}
        command = [programs / "postgres", "-D", data, *(f"--{key}={value}" for key, value in options.items())]
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True, **who)
        try:
            _wait(lambda: (folder / ".s.PGSQL.5432").exists() and "ready to accept" in log.read_text(), process, log)
            yield f"postgresql+psycopg2://mlflow@/postgres?host={folder}"
        finally:
            process.send_signal(signal.SIGINT)  # fast shutdown
            process.wait(timeout=30)
    finally:
        shutil.rmtree(folder)


@contextmanager
def mlflow_server(folder: Path, backend: str, artifacts: str, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """`mlflow server` on loopback; gives its address.

    Args:
        folder: For its log.
        backend: Address of its database.
        artifacts: Where it keeps artifacts, which clients reach through it only.
        environment: More variables, such as keys of an object store.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stores = ["--backend-store-uri", backend, "--artifacts-destination", artifacts]
    command = [sys.executable, "-m", "mlflow", "server", *stores, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = folder / "mlflow.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=os.environ | quiet | (environment or {}), stdout=output, stderr=output, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait(lambda: _is_healthy(uri), process, log)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=20)


def _is_healthy(uri: str) -> bool:
    try:
        urllib.request.urlopen(f"{uri}/health", timeout=1).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


def _wait(ready, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not ready():
        assert process.poll() is None, f"it ended:\n{log.read_text()[-2000:]}"
        assert time.monotonic() < end, f"it does not start:\n{log.read_text()[-2000:]}"
        time.sleep(0.1)
