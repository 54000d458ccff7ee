"""Files that are whole or not there, and locks that end with their owner."""

import os
import signal
import stat
import threading
import time

import pytest

from softprompt.errors import InvalidRequest, ServiceUnavailable
from softprompt.release.durable import file_lock, flush, read_if_there, write_durably


def test_what_is_written_is_read_and_replaced(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (b"first", b"second, longer", b""):
        write_durably(path, content)
        assert read_if_there(path) == content
    assert os.listdir(path.parent) == ["file"]


def test_a_reader_sees_the_old_bytes_or_the_new_and_nothing_between(tmp_path):
    path, done, seen = tmp_path / "file", threading.Event(), set()
    contents = [bytes([number]) * 500_000 for number in range(2)]
    write_durably(path, contents[0])

    def read():
        while not done.is_set():
            seen.add(read_if_there(path))

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(60):
        write_durably(path, contents[number % 2])
    done.set()
    thread.join()
    assert seen <= set(contents)


def test_a_missing_file_is_none(tmp_path):
    assert read_if_there(tmp_path / "none") is None


def test_a_private_file_is_private_from_its_first_byte(tmp_path, monkeypatch):
    modes = []
    real = os.fdopen

    def watch(descriptor, *arguments):
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return real(descriptor, *arguments)

    monkeypatch.setattr(os, "fdopen", watch)
    write_durably(tmp_path / "key", b"secret", mode=0o600)
    assert modes == [0o600]


def test_a_write_that_fails_leaves_the_old_content_and_no_draft(tmp_path, monkeypatch):
    write_durably(tmp_path / "file", b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidRequest, match=r"(?s)cannot be written.*No space left"):
        write_durably(tmp_path / "file", b"new")
    assert read_if_there(tmp_path / "file") == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_was_written_without_a_flush_is_flushed_later(tmp_path, monkeypatch):
    flushed, paths = [], [tmp_path / name for name in ("one", "two")]
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    for path in paths:
        write_durably(path, b"new", flushed=False)
    assert flushed == []
    flush(paths)
    assert flushed == [str(path) for path in (*paths, tmp_path)]
    with pytest.raises(InvalidRequest, match="cannot be written"):
        flush([tmp_path / "gone"])


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidRequest, match="cannot be written"):
        write_durably(tmp_path / "file" / "below", b"x")
    with pytest.raises(InvalidRequest, match="lock file cannot be made"), file_lock(tmp_path / "file" / "lock"):
        pass
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_if_there(tmp_path)


def test_a_lock_keeps_others_out_until_it_is_given_back(tmp_path):
    order, inside = [], threading.Event()

    def second():
        inside.wait()
        with file_lock(tmp_path / "lock"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with file_lock(tmp_path / "lock"):
        inside.set()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_lock_that_is_kept_too_long_is_reported(tmp_path):
    with (
        file_lock(tmp_path / "lock"),
        pytest.raises(ServiceUnavailable, match="has held a lock"),
        file_lock(tmp_path / "lock", timeout_seconds=0.05),
    ):
        pass


def test_a_killed_holder_holds_nothing(tmp_path):
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with file_lock(tmp_path / "lock"):
            os.write(told, b"x")
            time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with file_lock(tmp_path / "lock", timeout_seconds=1):
        pass


def test_a_forked_child_does_not_keep_a_lock_that_its_parent_gave_back(tmp_path):
    with file_lock(tmp_path / "lock"):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        with file_lock(tmp_path / "lock", timeout_seconds=1):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
