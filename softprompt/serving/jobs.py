"""What the HTTP side asks of an engine, and what it hears back: the seam between the two halves of serving.

An engine runs one frozen base in a thread of its own and answers rows of many prompts together. The HTTP side turns a request
into a job (template rendered, tokens made, prompt warm) and turns tokens back into text. Neither imports the other.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, Protocol

from softprompt.serving.bank import WarmPrompt
from softprompt.serving.numbers import EngineNumbers

FinishReason = Literal["stop", "length", "cancelled"]
"""`stop`: the model ended its text. `length`: as long as it may be. `cancelled`: nobody wanted more of it."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = 0.0
    """0: the most likely one."""
    top_p: float = 1.0
    """Only the most likely tokens that together have this probability."""
    seed: int = 0
    """The same seed, prompt and text give the same tokens, whoever shares the batch."""


@dataclass(frozen=True, kw_only=True)
class GenerateJob:
    """Write a text behind a prompt and an input text."""

    prompt: WarmPrompt | None
    """None: the bare base."""
    token_ids: tuple[int, ...]
    """The rendered input text."""
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    num_logprobs: int = 0
    """How many of the most likely tokens are named with each token."""


@dataclass(frozen=True, kw_only=True)
class RankJob:
    """Probabilities of a prompt's answers, under their trie."""

    prompt: WarmPrompt
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class NewToken:
    """One more token of a text."""

    token_id: int
    logprob: float
    """Of the base behind the prompt, before temperature and top_p, natural logarithm."""
    most_likely: tuple[tuple[int, float], ...] = ()
    """(token, logprob), the most likely first; as many as were asked for."""


@dataclass(frozen=True)
class Finished:
    """The last event of a text."""

    reason: FinishReason


@dataclass(frozen=True)
class Failed:
    """The last event of a text that could not be written."""

    error: Exception


Event = NewToken | Finished | Failed


class Ticket(Protocol):
    """A text that is being written."""

    def cancel(self) -> None:
        """Nobody wants more of it. Its row leaves the batch; `Finished("cancelled")` follows unless it had ended."""


class Engine(Protocol):
    """Runs one base; every method may be called from any thread."""

    @property
    def is_alive(self) -> bool:
        """Whether it can still answer."""

    @property
    def numbers(self) -> EngineNumbers:
        """What it did and has before it; what an engine does not know of itself stays 0."""

    def generate(self, job: GenerateJob, on_event: Callable[[Event], None]) -> Ticket:
        """Begin a text and return at once. `on_event` is called from the engine's thread and must not block."""

    def rank(self, job: RankJob) -> "Future[tuple[float, ...]]":
        """Probability of each answer, in the order of the manifest."""
