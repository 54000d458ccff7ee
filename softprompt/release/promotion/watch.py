"""Reconcile for ever: look, mend, wait, whatever happened; the in-cluster form of `release apply`.

Level-triggered: a round looks at what Git and the store say now, and remembers nothing that it could not find out again. A round
that fails is tried again, later each time and never at the same moment as the others.
"""

import random
import threading
from collections.abc import Callable

from softprompt.errors import SoftpromptError
from softprompt.release.promotion.health import Health, Seen

LONGEST_WAIT_SECONDS = 900.0


def watch(
    look: Callable[[], Seen],
    health: Health,
    stop: threading.Event,
    *,
    interval_seconds: float,
    tell: Callable[[str], None],
) -> None:
    """Do rounds until told to stop; the round in progress is finished first.

    Args:
        look: One round.
        health: Told what each came to.
        stop: Set to end it.
        interval_seconds: Between rounds that succeed.
        tell: Gets a line whenever something is news.
    """
    failures, last = 0, ""
    while not stop.is_set():
        try:
            seen = look()
            failures = 0
            health.saw(seen)
            news = "\n".join(_lines(seen))
        except Exception as error:  # noqa: BLE001  (a reconciler that ends because of one bad round reconciles nothing)
            failures += 1
            kind = type(error).__name__
            message = str(error) if isinstance(error, SoftpromptError) else f"{kind}: {error}"
            health.failed(kind, message)
            news = f"failed: {message}"
        if news != last:
            tell(news)
            last = news
        stop.wait(pause_seconds(failures, interval_seconds))


def pause_seconds(failures: int, interval_seconds: float) -> float:
    """How long to wait: the interval, doubled by each failure in a row, at most a quarter of an hour; a fifth more or less."""
    doubled = interval_seconds * 2.0 ** min(failures, 30)
    return min(doubled, max(LONGEST_WAIT_SECONDS, interval_seconds)) * random.uniform(0.8, 1.2)


def _lines(seen: Seen) -> list[str]:
    first = f"generation {seen.generation} says what commit {seen.commit[:12]} wants"
    if seen.drifts:
        first = f"refused: commit {seen.commit[:12]}; the channel stays at generation {seen.generation}"
    waiting = [f"{seen.num_proposals} proposals of pipelines wait"] if seen.num_proposals else []
    return [first, *(f"  {reason}" for reason in seen.reasons if seen.drifts), *(f"  {text}" for text in seen.problems), *waiting]
