"""What Prometheus reads: the channel, the bank, requests, the pace of answers.

Labels come from the signed channel and from fixed lists, never from what a client sends, and what the channel does not serve any
more leaves: the number of series is bounded by the channel's size.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from softprompt.release.snapshot import Alarm, AlarmReason, Snapshot
from softprompt.release.statement import parse_time
from softprompt.serving.jobs import Engine
from softprompt.serving.writing import Pace

if TYPE_CHECKING:
    from softprompt.serving.node import Node

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PACES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

Shadow = Literal["agreed", "differed", "failed", "dropped"]
"""What became of a shadow prompt's answer."""


@dataclass(frozen=True)
class PromptNumbers:
    """What the page shows of one prompt."""

    num_answers: int
    mean_seconds_to_first_token: float
    mean_tokens_per_second: float


class Metrics:
    """One node's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._alarms = self._counter("alarms", "Faults of updates by reason; each is counted once.", "reason")
        for reason in get_args(AlarmReason):
            self._alarms.labels(reason)
        self._requests = self._counter("requests", "Requests by path and status.", "path", "status")
        self._answers = self._counter("answers", "Answers by prompt and digest.", "prompt", "digest")
        self._tokens = self._counter("tokens", "Tokens of input texts and of answers.", "prompt", "kind")
        self._shadows = self._counter("shadow_answers", "Answers of shadow prompts.", "prompt", "digest", "outcome")
        self._to_first = self._histogram("time_to_first_token_seconds", "From hand-over to the first token.", SECONDS, "prompt")
        self._pace = self._histogram("tokens_per_second", "Of one answer, after its first token.", PACES, "prompt")
        self._seconds = self._histogram("request_seconds", "A whole request.", SECONDS, "path")
        self._queue = self._histogram("queue_seconds", "Waiting for a place.", SECONDS)
        self._numbers: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0, 0.0])
        self._digests: dict[str, set[str]] = defaultdict(set)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)

    def watch(self, node: "Node") -> None:
        """Gauges of what a node has now."""
        follower, admission, bank = node.follower, node.admission, node.bank

        def age(attribute: str) -> float:
            return time.time() - parse_time(getattr(follower.snapshot, attribute))

        self._gauge("generation", "Number of the active generation.", lambda: follower.snapshot.generation)
        self._gauge("generation_age_seconds", "Since it was signed.", lambda: age("created"))
        self._gauge("generation_expires_in_seconds", "Negative: it has expired.", lambda: -age("expires"))
        self._gauge("stale", "1: there may be a newer generation.", lambda: follower.snapshot.stale)
        self._gauge("staleness_seconds", "Since the store last answered a look.", lambda: follower.seconds_since_look)
        self._gauge("prompts", "Names that can be asked.", lambda: len(follower.names))
        self._gauge("tokens_file_broken", "1: the file of tokens cannot be read.", lambda: node.access.is_broken)
        self._gauge("rows", "Answers that are being written.", lambda: admission.num_rows)
        self._gauge("waiting_requests", "Requests that wait for a place.", lambda: admission.num_waiting)
        for name, what in (("num_bytes", "Bytes of warm prompts."), ("num_prompts", "Warm prompts."), ("num_pinned", "Pinned.")):
            self._gauge(f"cache_{name.removeprefix('num_')}", what, lambda name=name: getattr(bank.numbers, name))
        for name in ("num_hits", "num_loads", "num_failed_loads", "num_evictions"):
            what = f"{name.removeprefix('num_').replace('_', ' ').capitalize()} since the start."
            self._gauge(f"cache_{name.removeprefix('num_')}", what, lambda name=name: getattr(bank.numbers, name))

        self._watch_engine(node.engine)

    def _watch_engine(self, engine: Engine) -> None:
        """What the engine says of itself."""
        for name, what in (
            ("num_rows", "Texts that are written together now: the batch size."),
            ("num_waiting", "Texts that wait for room in the batch."),
            ("num_ranks_waiting", "Rows whose answers wait to be ranked."),
            ("cache_bytes", "Bytes of keys and values of rows."),
            ("num_steps", "Forwards since the start in which every row got a token."),
            ("busy_seconds", "Time since the start that the engine worked."),
        ):
            self._gauge(f"engine_{name.removeprefix('num_')}", what, lambda name=name: getattr(engine.numbers, name))

    def on_alarms(self, alarms: Iterable[Alarm]) -> None:
        """Something went wrong with an update."""
        for alarm in alarms:
            self._alarms.labels(alarm.reason).inc()

    def on_request(self, path: str, status: int, seconds: float) -> None:
        """A request has ended. `path` is a route's, so there are few."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def on_queued(self, seconds: float) -> None:
        """A request got its place."""
        self._queue.observe(seconds)

    def on_answer(self, prompt: str, digest: str, num_input_tokens: int, pace: Pace) -> None:
        """An answer has ended, whether whole or not."""
        self._answers.labels(prompt, self._short(prompt, digest)).inc()
        self._tokens.labels(prompt, "input").inc(num_input_tokens)
        self._tokens.labels(prompt, "answer").inc(pace.num_tokens)
        numbers = self._numbers[prompt]
        numbers[0] += 1
        if pace.first:
            self._to_first.labels(prompt).observe(pace.seconds_to_first)
            numbers[1] += pace.seconds_to_first
        if pace.tokens_per_second:
            self._pace.labels(prompt).observe(pace.tokens_per_second)
            numbers[2], numbers[3] = numbers[2] + 1, numbers[3] + pace.tokens_per_second

    def on_shadow(self, prompt: str, digest: str, outcome: Shadow) -> None:
        """A shadow prompt answered, or did not."""
        self._shadows.labels(prompt, self._short(prompt, digest), outcome).inc()

    def numbers(self, prompt: str) -> PromptNumbers:
        """For the page."""
        answers, first, paced, pace = self._numbers.get(prompt, [0, 0.0, 0, 0.0])
        return PromptNumbers(int(answers), first / answers if answers else 0.0, pace / paced if paced else 0.0)

    def forget_all_but(self, snapshot: Snapshot) -> None:
        """Drop the series of names and digests that a generation does not serve."""
        served = {name: {digest[:12] for digest in found.digests} for name, found in snapshot.prompts.items()}
        for prompt, digests in list(self._digests.items()):
            for digest in digests - served.get(prompt, set()) - {""}:
                digests.discard(digest)
                _remove(self._answers, prompt, digest)
                for outcome in get_args(Shadow):
                    _remove(self._shadows, prompt, digest, outcome)
            if prompt not in served and "" not in digests:
                del self._digests[prompt]
                self._numbers.pop(prompt, None)
                _remove(self._to_first, prompt)
                _remove(self._pace, prompt)
                for kind in ("input", "answer"):
                    _remove(self._tokens, prompt, kind)

    def _short(self, prompt: str, digest: str) -> str:
        short = digest[:12]
        self._digests[prompt].add(short)
        return short

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"softprompt_{name}", what, labels, registry=self.registry)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"softprompt_{name}", what, labels, registry=self.registry, buckets=(*buckets, math.inf))

    def _gauge(self, name: str, what: str, read: Any) -> None:
        Gauge(f"softprompt_{name}", what, registry=self.registry).set_function(read)


def _remove(metric: Any, *labels: str) -> None:
    with suppress(KeyError):
        metric.remove(*labels)
