"""The laptop's S3 server: a child process (`s3_server`), its objects in a folder, shared by all commands that use it.

Conditional creates are only safe while one process serves the folder, so that is what this module guarantees:

    alive.lock    locked by the server process itself, through a file it inherits: the system says whether one runs
    starting.lock held while somebody looks, starts or stops
    users.lock    held, shared, by each user; who leaves last stops the server
    server.json   port and token of the server; it shows the token in its health answer and in its command line

A user that was killed leaves a server that the next one finds. A process id is believed only if its command line shows
the token. The server checks no keys: it listens on 127.0.0.1 alone, and the keys that it is given are words, not
secrets.
"""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from softprompt.documents import Document
from softprompt.errors import StoreUnavailable, VerificationFailed
from softprompt.release.durable import (
    file_lock,
    open_lock,
    read_if_there,
    try_lock,
    unlock,
    wait_for_lock,
    write_durably,
)
from softprompt.release.s3_client import S3Access

BUCKET = "softprompt"
START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 5.0
HEALTH_TIMEOUT_SECONDS = 2.0

_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
# A Popen object that is forgotten while its process runs complains; a server may outlive the user that started it.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, kw_only=True)
class EmbeddedS3:
    """A running server and its one bucket."""

    access: S3Access
    """Endpoint and keys, for `s3_client` and `open_store`."""
    bucket: str = BUCKET
    """It is there."""

    @property
    def uri(self) -> str:
        """`s3://softprompt`, for `open_store`."""
        return f"s3://{self.bucket}"

    def environment(self) -> dict[str, str]:
        """The same as environment variables, for child processes that read the usual AWS settings."""
        return {
            "AWS_ENDPOINT_URL_S3": self.access.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.access.secret_access_key,
            "AWS_DEFAULT_REGION": self.access.region,
        }


class _Server(Document):
    """`server.json`, written before the process starts."""

    port: int
    token: str
    started: float
    """Seconds since 1970, for people."""


@contextmanager
def embedded_s3(folder: Path) -> Iterator[EmbeddedS3]:
    """Use the S3 server of a folder; it starts (half a second) unless it runs, and stops after its last user.

    Args:
        folder: Holds the objects and survives; made if need be. On a local disk: network ones may have no locks.

    Raises:
        StoreUnavailable: The server does not start; its log is in `server.log`.
        ServiceUnavailable: Another command has been starting or stopping it for minutes.
    """
    folder = folder.absolute()
    users = open_lock(folder / "users.lock")
    try:
        with file_lock(folder / "starting.lock"):
            wait_for_lock(users, folder / "users.lock", shared=True)
            server = _running(folder) or _start(folder)
            _create_bucket(server)
        access = S3Access(
            endpoint_url=f"http://127.0.0.1:{server.port}",
            region="us-east-1",
            access_key_id="softprompt",
            secret_access_key="softprompt",  # noqa: S106  (the server asks for none)
        )
        try:
            yield EmbeddedS3(access=access)
        finally:
            with file_lock(folder / "starting.lock"):
                if try_lock(users):  # gives up our own share, and succeeds only if nobody else has one
                    _stop(folder)
    finally:
        unlock(users)


def _running(folder: Path) -> _Server | None:
    """The folder's server if one runs and answers; one that runs without answering is stopped."""
    if not _alive(folder):
        return None
    server = _remembered(folder)
    if server is not None and _wait_until_ready(folder, server):
        return server
    _stop(folder)
    return None


def _start(folder: Path) -> _Server:
    _sweep(folder)
    for _ in range(3):  # somebody may take the port between our asking for a free one and the server's using it
        server = _Server(port=_free_port(), token=secrets.token_hex(16), started=time.time())
        write_durably(folder / "server.json", server.to_bytes())
        _spawn(folder, server)
        if _wait_until_ready(folder, server):
            return server
        _stop(folder)
    raise StoreUnavailable(
        "The embedded S3 server does not start.",
        where=str(folder / "server.log"),
        actual=_last_line(folder / "server.log"),
        hint="Read the log; the embedded server needs the package `ministack`.",
    )


def _spawn(folder: Path, server: _Server) -> None:
    alive = open_lock(folder / "alive.lock")
    try:
        if not try_lock(alive):
            raise StoreUnavailable("Another embedded S3 server holds this folder.", where=str(folder))
        with (folder / "server.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-X", f"softprompt={server.token}", "-m", "softprompt.embedded.s3_server"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(folder, server),
                cwd=folder,
                pass_fds=[alive],
                start_new_session=True,  # Ctrl-C ends the command, which then ends the server
            )
        _started.append(process)
    finally:
        os.close(alive)  # the server keeps the lock: it inherited the open file


def _environment(folder: Path, server: _Server) -> dict[str, str]:
    """Only what the server needs: no keys of its starter, and no setting meant for another ministack."""
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    return kept | {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(server.port),
        "SERVICES": "s3",
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folder / "objects"),
        "TMPDIR": str(folder / "tmp"),  # its pid file
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{folder}/no-docker",  # it would remove containers of another ministack
        "MINISTACK_EDITION": server.token,  # shown in its health answer
        "LOG_LEVEL": "WARNING",
    }


def _wait_until_ready(folder: Path, server: _Server) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline and _alive(folder):
        if _answers(server):
            return True
        time.sleep(0.02)
    return False


def _answers(server: _Server) -> bool:
    """Whether the server on the port is ours; anybody may have the port by now."""
    try:
        return bool(json.loads(_request(server, "GET", "/_ministack/health")).get("edition") == server.token)
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        return False


def _create_bucket(server: _Server) -> None:
    # By every user: the server forgets a bucket that was empty when it stopped, and its starter may have been killed
    # before it made one. Creating it again changes nothing.
    try:
        answer = _request(server, "PUT", f"/{BUCKET}")
    except (OSError, http.client.HTTPException) as error:
        raise StoreUnavailable("The embedded S3 server ended again.", where=BUCKET, actual=str(error)) from None
    if b"<Error>" in answer:
        raise StoreUnavailable("The embedded S3 server makes no bucket.", where=BUCKET, actual=answer.decode())


def _request(server: _Server, method: str, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=HEALTH_TIMEOUT_SECONDS)
    try:
        connection.request(method, path)
        return connection.getresponse().read(1024 * 1024)
    finally:
        connection.close()


def _stop(folder: Path) -> None:
    """End the folder's server, politely first; nothing else is ever sent a signal."""
    server = _remembered(folder)
    for number in (signal.SIGTERM, signal.SIGKILL):
        pid = _pid(folder, server) if server is not None and _alive(folder) else None
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while _alive(folder) and time.monotonic() < deadline:
            time.sleep(0.01)
    if _alive(folder):
        raise StoreUnavailable(
            "An embedded S3 server does not end.",
            where=str(folder),
            hint="Find the process that runs ministack, and end it.",
        )
    _started[:] = [process for process in _started if process.poll() is None]


def _pid(folder: Path, server: _Server) -> int | None:
    """The server's process id, by its own pid file, if that process has the server's token in its command line."""
    written = read_if_there(folder / "tmp" / f"ministack-{server.port}.pid") or b""
    pid = int(written) if written.strip().isdigit() else 0
    return pid if pid and server.token in _command_line(pid) else None


def _command_line(pid: int) -> str:
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
        except OSError:
            return ""
    shown = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout


def _alive(folder: Path) -> bool:
    """Whether a server process holds the folder: a lock is never left behind. Ask only with `starting.lock` held."""
    descriptor = open_lock(folder / "alive.lock")
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def _remembered(folder: Path) -> _Server | None:
    written = read_if_there(folder / "server.json")
    try:
        return _Server.from_bytes(written, source="server.json") if written else None
    except VerificationFailed:
        return None


def _sweep(folder: Path) -> None:
    """Before a start: remove old pid files, and what a killed server was writing, which would be listed as objects."""
    for sub in ("objects", "tmp"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for draft in (folder / "objects").rglob("*.tmp"):
        # A complete object whose name ends in .tmp has its description beside it.
        if draft.is_file() and not draft.with_name(f"{draft.name}.meta.json").exists():
            draft.unlink()
    for old in (folder / "tmp").glob("ministack-*.pid"):
        old.unlink()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _last_line(log: Path) -> str:
    lines = (read_if_there(log) or b"").decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "nothing was logged"
