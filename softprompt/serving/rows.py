"""One text that is being written: a row of the running batch."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from softprompt.base_model import FrozenBase
from softprompt.engine.sampling import row_stream
from softprompt.engine.strategy import Prefix, Strategy, check_length
from softprompt.errors import InvalidRequest
from softprompt.serving.jobs import Event, Failed, Finished, GenerateJob, NewToken

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Row:
    """A text, from the moment it was asked for; its own ticket.

    Attributes:
        job: What was asked for.
        on_event: Who hears of it.
        strategy: Runs the base for this kind of prompt.
        prefix: The prompt as the strategy prepared it.
        most_tokens: Tokens that it may have; what was asked for, or what the context leaves.
        stream: Its own random numbers; None: greedy.
        num_tokens: Tokens that it has.
        last_token: The newest of them, which the base has not read yet.
        position: Where that one stands, counted from the prompt's first token.
    """

    job: GenerateJob
    on_event: Callable[[Event], None]
    strategy: Strategy
    prefix: Any
    most_tokens: int = 0
    stream: Random | None = None
    num_tokens: int = 0
    last_token: int = -1
    position: int = 0
    asked_at: float = field(default_factory=time.perf_counter)
    first_token_at: float = 0.0
    is_cancelled: bool = False

    def cancel(self) -> None:
        """Nobody wants more of it."""
        self.is_cancelled = True

    @property
    def digest(self) -> str:
        """Of its prompt; empty for the bare base."""
        return self.job.prompt.digest if self.job.prompt else ""

    @property
    def num_read(self) -> int:
        """Places that prompt and input text take."""
        return int(self.prefix.num_tokens) + len(self.job.token_ids)

    @property
    def most_places(self) -> int:
        """Places of keys and values that it may come to; the last token is never read."""
        return self.num_read + self.most_tokens - 1

    def begin(self, base: FrozenBase) -> None:
        """Check that the base can read it, and fix how long it may become.

        Raises:
            InvalidRequest: It has no tokens, tokens that the base does not have, or is longer than the context.
        """
        prefix: Prefix = self.prefix
        self.most_tokens = num_tokens_left(base, prefix, self.job.token_ids, self.job.max_new_tokens)
        sampling = self.job.sampling
        self.stream = row_stream(sampling.seed, self.job.token_ids) if sampling.temperature else None
        self.position = self.num_read

    def write(self, token: NewToken) -> None:
        """One more token."""
        self.num_tokens += 1
        self.last_token = token.token_id
        self.first_token_at = self.first_token_at or time.perf_counter()
        self.tell(token)

    def tell(self, event: NewToken | Finished | Failed) -> None:
        """Say what happened; whoever fails to listen loses the row and harms no other."""
        try:
            self.on_event(event)
        except Exception:  # noqa: BLE001  # theirs, whatever it is
            _log.exception("whoever asked for a text failed to hear of it; it is not written further")
            self.is_cancelled = True


def num_tokens_left(base: FrozenBase, prefix: Prefix, token_ids: tuple[int, ...], wanted: int) -> int:
    """How many tokens an answer may have: what was asked for, or what the context leaves.

    Raises:
        InvalidRequest: The input has no tokens, tokens that the base does not have, or is longer than the context.
    """
    if not token_ids or min(token_ids) < 0 or max(token_ids) >= base.vocabulary_size or wanted < 1:
        raise InvalidRequest(
            "The base model cannot read this input.",
            expected=f"one token or more, each from 0 to {base.vocabulary_size - 1}, and an answer of one token or more",
            actual=f"{len(token_ids)} tokens, an answer of {wanted}",
        )
    check_length(base, prefix.num_tokens, len(token_ids) + 1)
    return max(1, min(wanted, base.text.context_tokens - prefix.num_tokens - len(token_ids)))
