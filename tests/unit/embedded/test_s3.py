"""The laptop's S3 server: one per folder, whatever happens to those who use it."""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from softprompt.embedded import s3
from softprompt.embedded.s3 import embedded_s3
from softprompt.errors import StoreUnavailable
from softprompt.release.store import open_store

USER = """
import sys, time
from pathlib import Path
from softprompt.embedded.s3 import embedded_s3
with embedded_s3(Path(sys.argv[1])) as server:
    print(server.access.endpoint_url, flush=True)
    sys.stdin.readline()
"""


def server_pids(folder):
    """Processes that serve a folder, as the system sees them."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
        except (OSError, NotADirectoryError):
            continue
        if f"S3_DATA_DIR={folder}/objects".encode() in variables:
            found.append(int(process.name))
    return found


class User:
    """Another command that uses the folder."""

    def __init__(self, folder):
        command = [sys.executable, "-c", USER, str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = self._process.stdout.readline().strip()

    def leave(self):
        self._process.communicate("\n", timeout=30)
        assert self._process.returncode == 0

    def kill(self):
        self._process.kill()
        self._process.communicate(timeout=30)


@pytest.fixture
def folder(tmp_path):
    yield tmp_path / "s3"
    for pid in server_pids(tmp_path / "s3"):
        os.kill(pid, signal.SIGKILL)


def put(server, key, data):
    open_store(server.uri, server.access).put(key, data)


def get(server, key):
    return open_store(server.uri, server.access).get(key, max_bytes=1000)


def test_objects_survive_and_the_server_does_not(folder):
    with embedded_s3(folder) as server:
        assert len(server_pids(folder)) == 1
        put(server, "a/b", b"kept")
    assert server_pids(folder) == []
    with embedded_s3(folder) as server:
        assert get(server, "a/b") == b"kept"
        assert open_store(server.uri, server.access).create("a/b", b"other") == "refused"


def test_the_bucket_is_there_also_when_it_was_left_empty(folder):
    for _ in range(2):
        with embedded_s3(folder) as server:
            assert list(open_store(server.uri, server.access).list("")) == []


def test_it_starts_quickly(folder):
    start = time.perf_counter()
    with embedded_s3(folder):
        assert time.perf_counter() - start < 5  # half a second on an idle machine


def test_it_listens_on_this_machine_only(folder):
    with embedded_s3(folder) as server:
        port = int(server.access.endpoint_url.rsplit(":", 1)[1])
        listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"]
        assert [address for address in listening if address.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


def test_the_server_knows_none_of_its_starters_secrets(folder, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("GATEWAY_PORT", "1")
    monkeypatch.setenv("PERSIST_STATE", "1")
    with embedded_s3(folder):
        variables = Path(f"/proc/{server_pids(folder)[0]}/environ").read_bytes()
    assert b"hush" not in variables
    assert b"PERSIST_STATE" not in variables


def test_child_processes_can_use_it_by_the_usual_settings(folder, monkeypatch):
    with embedded_s3(folder) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        open_store(server.uri).put("key", b"x")
        assert get(server, "key") == b"x"


def test_two_commands_share_one_server_and_the_last_stops_it(folder):
    with embedded_s3(folder) as server:
        other = User(folder)
        assert other.endpoint == server.access.endpoint_url
        assert len(server_pids(folder)) == 1
    assert len(server_pids(folder)) == 1
    other.leave()
    assert server_pids(folder) == []


def test_commands_that_start_at_once_share_one_server(folder):
    users = []
    threads = [threading.Thread(target=lambda: users.append(User(folder))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({user.endpoint for user in users}) == 1
    assert len(server_pids(folder)) == 1
    for user in users:
        user.leave()
    assert server_pids(folder) == []


def test_threads_share_one_server(folder):
    with embedded_s3(folder) as first, embedded_s3(folder) as second:
        assert first == second
        assert len(server_pids(folder)) == 1
    assert server_pids(folder) == []


def test_the_server_of_a_killed_command_is_found_and_used(folder):
    killed = User(folder)
    killed.kill()
    pids = server_pids(folder)
    assert len(pids) == 1
    with embedded_s3(folder) as server:
        assert server.access.endpoint_url == killed.endpoint
        assert server_pids(folder) == pids
    assert server_pids(folder) == []


def test_a_killed_command_among_others_does_not_keep_the_server_alive(folder):
    killed, other = User(folder), User(folder)
    killed.kill()
    other.leave()
    assert server_pids(folder) == []


def test_a_server_whose_starter_was_killed_before_it_was_ready_is_found(folder, monkeypatch):
    """The moment after the process was started, before anybody could have written down its process id."""
    child = multiprocessing.get_context("fork").Process(target=_die_after_spawn, args=(folder,))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert len(server_pids(folder)) == 1
    with embedded_s3(folder) as server:
        put(server, "key", b"x")
        assert len(server_pids(folder)) == 1
    assert server_pids(folder) == []


def _die_after_spawn(folder):
    s3._wait_until_ready = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    with embedded_s3(folder):
        pass


def test_a_dead_server_is_replaced(folder):
    with embedded_s3(folder) as server:
        put(server, "key", b"kept")
        os.kill(server_pids(folder)[0], signal.SIGKILL)
        with embedded_s3(folder) as replaced:
            assert get(replaced, "key") == b"kept"
    assert server_pids(folder) == []


def test_a_server_that_hangs_is_replaced(folder, monkeypatch):
    monkeypatch.setattr(s3, "START_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(s3, "STOP_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(s3, "HEALTH_TIMEOUT_SECONDS", 0.5)
    user = User(folder)
    (hanging,) = server_pids(folder)
    os.kill(hanging, signal.SIGSTOP)
    with embedded_s3(folder) as server:
        put(server, "key", b"x")
        assert hanging not in server_pids(folder)
    user.kill()


@pytest.mark.parametrize("content", ["", "{}", '{"port": 1, "token": "x", "started": 0.0}', "not json"])
def test_a_stale_description_of_a_server_is_replaced(folder, content):
    folder.mkdir()
    (folder / "server.json").write_text(content)
    with embedded_s3(folder) as server:
        put(server, "key", b"x")
    assert server_pids(folder) == []


def test_a_recycled_process_id_is_never_killed(folder):
    """server.json and pid file name a live process that is none of ours."""
    with embedded_s3(folder):
        written = (folder / "server.json").read_bytes()
    port = json.loads(written)["port"]
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (folder / "tmp" / f"ministack-{port}.pid").write_text(str(stranger.pid))
        with embedded_s3(folder) as server:
            (folder / "tmp" / f"ministack-{server.access.endpoint_url.rsplit(':', 1)[1]}.pid").write_text(str(stranger.pid))
            os.kill(server_pids(folder)[0], signal.SIGKILL)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_live_server_whose_process_id_is_not_known_is_reported_and_nobody_killed(folder, monkeypatch):
    monkeypatch.setattr(s3, "STOP_TIMEOUT_SECONDS", 0.2)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        use = embedded_s3(folder)
        port = use.__enter__().access.endpoint_url.rsplit(":", 1)[1]
        (folder / "tmp" / f"ministack-{port}.pid").write_text(str(stranger.pid))
        with pytest.raises(StoreUnavailable, match="does not end"):
            use.__exit__(None, None, None)
        assert stranger.poll() is None
        assert len(server_pids(folder)) == 1
    finally:
        stranger.kill()
        stranger.wait()


def test_somebody_elses_server_on_the_port_is_not_believed(folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        folder.mkdir()
        port = other.getsockname()[1]
        (folder / "server.json").write_text(json.dumps({"port": port, "started": 0.0, "token": "x"}))
        with embedded_s3(folder) as server:
            assert not server.access.endpoint_url.endswith(f":{port}")


@pytest.mark.parametrize("by", ["something silent", "another folder's server"])
def test_a_port_that_is_taken_in_the_last_moment_is_no_obstacle(folder, monkeypatch, tmp_path, by):
    free_port = s3._free_port
    with contextlib.ExitStack() as stack:
        if by == "something silent":
            taken = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        else:
            other = stack.enter_context(embedded_s3(tmp_path / "other"))
            taken = int(other.access.endpoint_url.rsplit(":", 1)[1])
        ports = iter([taken, free_port()])
        monkeypatch.setattr(s3, "_free_port", lambda: next(ports))
        server = stack.enter_context(embedded_s3(folder))
        assert not server.access.endpoint_url.endswith(f":{taken}")
        put(server, "key", b"x")


def test_half_written_objects_of_a_killed_server_are_swept_away(folder):
    with embedded_s3(folder) as server:
        put(server, "named.tmp", b"a whole object with such a name")
        put(server, "kept", b"x")
    objects = next((folder / "objects").glob("*/softprompt"))
    (objects / "half.tmp").write_bytes(b"ha")
    (objects / "kept.meta.json.tmp").write_bytes(b"{")
    with embedded_s3(folder) as server:
        assert list(open_store(server.uri, server.access).list("")) == ["kept", "named.tmp"]


@pytest.mark.parametrize("sent", [b"", b"half"])
def test_an_upload_whose_client_goes_away_is_not_stored(folder, sent):
    with embedded_s3(folder) as server:
        put(server, "before", b"whole")
        host, port = server.access.endpoint_url.removeprefix("http://").split(":")
        for key in ("before", "new"):
            with socket.create_connection((host, int(port))) as connection:
                head = f"PUT /{server.bucket}/{key} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n"
                connection.sendall(head.encode() + sent)
        put(server, "after", b"x")  # answered after the broken requests were
        assert get(server, "before") == b"whole"
        assert get(server, "new") is None


def test_a_server_that_cannot_start_says_why(folder, monkeypatch):
    monkeypatch.setattr(s3, "_environment", lambda *_: {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"})
    with pytest.raises(StoreUnavailable, match=r"(?s)does not start.*server.log"), embedded_s3(folder):
        pass
    monkeypatch.undo()
    with embedded_s3(folder):
        pass


def test_an_error_inside_ends_the_server_too(folder):
    with pytest.raises(KeyError), embedded_s3(folder):
        raise KeyError
    assert server_pids(folder) == []


def test_a_forked_child_does_not_keep_the_server(folder):
    with embedded_s3(folder):
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
    try:
        assert server_pids(folder) == []
        start = time.monotonic()
        with embedded_s3(folder):
            assert time.monotonic() - start < 30
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_eight_commands_race_on_one_key_and_one_wins(folder):
    script = (
        "import sys\nfrom pathlib import Path\nfrom softprompt.embedded.s3 import embedded_s3\n"
        "from softprompt.release.store import open_store\n"
        "with embedded_s3(Path(sys.argv[1])) as server:\n"
        "    print(open_store(server.uri, server.access).create('race', sys.argv[2].encode()))\n"
    )
    users = [
        subprocess.Popen([sys.executable, "-c", script, str(folder), str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(8)
    ]
    answers = [user.communicate(timeout=120)[0].strip() for user in users]
    assert sorted(answers) == ["created"] + ["refused"] * 7
    assert server_pids(folder) == []
