"""Wait for what another process or thread is about to do."""

import time
from collections.abc import Callable
from typing import Any


def wait_for(look: Callable[[], Any], what: str, *, timeout_seconds: float = 30, every_seconds: float = 0.5) -> Any:
    """What `look` gives, once that is true."""
    deadline = time.monotonic() + timeout_seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {timeout_seconds:g} s: {what}"
        time.sleep(every_seconds)
    return found
