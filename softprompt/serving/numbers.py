"""What an engine did and has before it, for whoever watches: cheap to keep, one copy to read."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

Numbers = TypeVar("Numbers")

MAX_PROMPTS = 4096
"""Prompts whose numbers are kept; of more, the one that was used least recently is forgotten."""


@dataclass(frozen=True)
class PromptNumbers:
    """Of one prompt, since the engine began; sums only grow."""

    num_texts: int = 0
    """Texts that got a first token."""
    num_tokens: int = 0
    first_token_seconds: float = 0.0
    """From the request to the first token, summed over texts."""
    writing_seconds: float = 0.0
    """From the first token to the last, summed over texts that have ended."""
    num_ranked: int = 0
    """Rows whose answers were ranked."""


@dataclass(frozen=True)
class EngineNumbers:
    """Of one engine. Numbers of work only grow; the others are of this moment."""

    num_rows: int = 0
    """Texts that are being written: the batch size."""
    num_waiting: int = 0
    """Texts that wait for room in the batch."""
    num_ranks_waiting: int = 0
    cache_bytes: int = 0
    """Memory of keys and values of rows; prompts are the bank's."""
    max_cache_bytes: int = 0
    num_steps: int = 0
    """Forwards in which every running row got a token."""
    num_tokens: int = 0
    num_failed: int = 0
    """Texts and ranks that ended with an error."""
    busy_seconds: float = 0.0
    """Time that the engine's thread worked."""
    prompts: dict[str, PromptNumbers] = field(default_factory=dict)
    """By digest; the bare base under the empty one."""


class PromptLedger:
    """Numbers by prompt; written by the engine's thread, read by any."""

    def __init__(self) -> None:
        self._prompts: OrderedDict[str, PromptNumbers] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, digest: str, **more: float) -> None:
        """Add to a prompt's numbers by name."""
        with self._lock:
            self._prompts[digest] = plus(self._prompts.pop(digest, PromptNumbers()), more)
            if len(self._prompts) > MAX_PROMPTS:
                self._prompts.popitem(last=False)

    def copy(self) -> dict[str, PromptNumbers]:
        """As they are now."""
        with self._lock:
            return dict(self._prompts)


def plus(numbers: Numbers, more: Mapping[str, float]) -> Numbers:
    """The same with something added to fields by name."""
    return replace(numbers, **{name: getattr(numbers, name) + value for name, value in more.items()})  # type: ignore[type-var]
