"""Answers on the event loop: what the engine's thread says about one text, as pieces of text while they come."""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from softprompt.errors import ServiceUnavailable
from softprompt.serving.jobs import Engine, Event, Failed, Finished, FinishReason, GenerateJob, NewToken, RankJob, Sampling
from softprompt.serving.text import AnswerText

LEAST_LOGPROB = -9999.0
"""What OpenAI says for a probability of zero; JSON has no infinity."""


@dataclass(frozen=True)
class LabelToken:
    """A whole label, where the set of answers is closed.

    Attributes:
        text: The label.
        logprob: Of the label among all.
        most_likely: (label, logprob), the most likely first.
    """

    text: str
    logprob: float
    most_likely: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """Some more of one answer.

    Attributes:
        text: What is certain now; may be empty at the end.
        tokens: What it was made of.
        num_tokens: How many more tokens were written.
        finish_reason: Set on the last piece.
    """

    text: str
    tokens: Sequence[NewToken | LabelToken]
    num_tokens: int
    finish_reason: FinishReason | None = None


@dataclass
class Pace:
    """How fast one answer came, seconds of the monotonic clock."""

    begun: float = field(default_factory=time.monotonic)
    first: float = 0.0
    last: float = 0.0
    num_tokens: int = 0

    def token(self) -> None:
        """One more came."""
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.num_tokens += 1

    @property
    def seconds_to_first(self) -> float:
        """From the hand-over to the engine to the first token."""
        return self.first - self.begun

    @property
    def tokens_per_second(self) -> float:
        """After the first token; 0 where there was no second one."""
        return (self.num_tokens - 1) / (self.last - self.first) if self.last > self.first else 0.0


class _Events:
    """From the engine's thread to the event loop, in order; many events may cross in one step."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._there = asyncio.Event()

    def put(self, event: Event) -> None:
        self._events.append(event)
        if not self._loop.is_closed():  # whoever asked may be gone with the whole server
            self._loop.call_soon_threadsafe(self._there.set)

    async def get(self) -> Event:
        while not self._events:
            self._there.clear()
            await self._there.wait()
        return self._events.popleft()


async def write(engine: Engine, job: GenerateJob, text: AnswerText, pace: Pace) -> AsyncGenerator[Piece, None]:
    """One text, piece by piece; leaving the iterator cancels the rest.

    Args:
        engine: Writes it.
        job: What to write.
        text: Makes text of its tokens.
        pace: Learns how fast they come.

    Raises:
        Exception: What the engine failed with.
    """
    events, pending = _Events(), list[NewToken]()
    ticket = engine.generate(job, events.put)
    try:
        while True:
            event = await events.get()
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                if event.reason == "cancelled":  # not by us
                    raise ServiceUnavailable("The engine gave up a text before its end.", hint="Ask again.")
                rest = text.finish()
                yield Piece(rest, pending, len(pending), "stop" if text.stopped else event.reason)
                return
            pace.token()
            pending.append(event)
            piece = text.push(event.token_id)
            if text.stopped:
                yield Piece(piece, pending, len(pending), "stop")
                return
            if piece:
                yield Piece(piece, pending, len(pending))
                pending = []
    finally:
        ticket.cancel()


async def write_label(
    engine: Engine,
    job: RankJob,
    labels: Sequence[str],
    num_tokens: Callable[[str], int],
    sampling: Sampling,
    num_logprobs: int,
    pace: Pace,
) -> AsyncGenerator[Piece, None]:
    """The answer of a prompt with a closed set of answers: one label, whole.

    Args:
        engine: Ranks them.
        job: What to rank.
        labels: In the order of the manifest.
        num_tokens: Tokens by which a label is said.
        sampling: Temperature 0: the most likely label; else one is drawn from their probabilities.
        num_logprobs: How many labels are named with their probabilities.
        pace: Learns how fast it came.
    """
    # Shielded: a client that goes away must not cancel a future that the engine is about to fill.
    probabilities = await asyncio.shield(asyncio.wrap_future(engine.rank(job)))
    pace.token()
    chosen = draw(probabilities, sampling)
    logs = [_log(probability) for probability in probabilities]
    ranked = sorted(range(len(labels)), key=lambda index: -logs[index])[:num_logprobs]
    token = LabelToken(labels[chosen], logs[chosen], tuple((labels[index], logs[index]) for index in ranked))
    yield Piece(labels[chosen], [token], num_tokens(labels[chosen]), "stop")


def draw(probabilities: Sequence[float], sampling: Sampling) -> int:
    """Index of the answer that is given: the most likely one, or drawn as `engine.sampling` draws tokens."""
    order = sorted(range(len(probabilities)), key=lambda index: -probabilities[index])
    if not sampling.temperature:
        return order[0]
    weights = [probabilities[index] ** (1 / sampling.temperature) for index in order]
    total, kept = sum(weights), list[float]()
    for weight in weights:
        if kept and sum(kept) >= sampling.top_p * total:
            break
        kept.append(weight)
    return random.Random(sampling.seed).choices(order[: len(kept)], kept)[0] if sum(kept) else order[0]


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else LEAST_LOGPROB
