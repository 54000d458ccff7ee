"""Servers and proxies of the release tests, and no long pauses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.memory_store import MemoryStore
from tests.reliability.world import World, fresh_folder
from tests.unit.release.conftest import ministack, no_long_pauses, versitygw

__all__ = ["ministack", "no_long_pauses", "versitygw"]


@pytest.fixture(autouse=True)
def one_request_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each publisher and node, so that an order of calls can be chosen."""
    monkeypatch.setattr("softprompt.release.blobs._REQUESTS_AT_ONCE", 1)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of a test's own, in memory."""
    with fresh_folder() as path:
        yield path


@pytest.fixture
def world(folder: Path) -> World:
    """A channel on a store of a dictionary."""
    return World(MemoryStore(), folder)
