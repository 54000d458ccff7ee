"""What a running step tells the person who waits: one line an event, on standard output.

In a pod's log or a terminal the line is for people. When our own command line runs a step it sets `SOFTPROMPT_EVENTS=1`, and
the same event is one JSON object behind a mark, which the command line turns into a live display.
"""

import json
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

from softprompt.errors import SoftpromptError

EVENTS_VARIABLE = "SOFTPROMPT_EVENTS"
_MARK = "@softprompt "
_MARKED = re.compile(re.escape(_MARK) + r"(\{.*\})")


class MetricSink(Protocol):
    """Where training metrics go while it runs; MLflow's is in `softprompt.registry`."""

    def log(self, points: Sequence[tuple[int, dict[str, float]]]) -> None:
        """Record (optimiser step, metrics) pairs."""


class NoSink:
    """Drops metrics."""

    def log(self, points: Sequence[tuple[int, dict[str, float]]]) -> None:
        """Do nothing."""


def tell(step: str, text: str, **facts: Any) -> None:
    """Report an event.

    Args:
        step: The pipeline step's name.
        text: One line for a person.
        **facts: The same for a program; `done` and `total` draw a progress bar.
    """
    line = f"[{step}] {text}"
    if os.environ.get(EVENTS_VARIABLE):
        line = _MARK + json.dumps({"step": step, "text": text, **facts}, ensure_ascii=False)
    print(line, flush=True)


def read_event(line: str) -> dict[str, Any] | None:
    """The event in a line of output, wherever in the line Ray or KFP have pushed it; None: an ordinary line."""
    found = _MARKED.search(line)
    if not found:
        return None
    try:
        event: dict[str, Any] = json.loads(found[1])
    except ValueError:
        return None
    return event


@contextmanager
def step_errors(step: str) -> Iterator[None]:
    """Turn what goes wrong into one event and its exit code; a stack trace goes with faults of ours only."""
    try:
        yield
    except SoftpromptError as error:
        trace = traceback.format_exc() if error.exit_code == 1 else ""
        _tell_error(step, error, trace)
    except Exception as error:  # noqa: BLE001  # the edge of the process: whatever it is, it is told
        fault = SoftpromptError(f"{type(error).__name__}: {error}", hint="This is a fault of softprompt's; please report it.")
        _tell_error(step, fault, traceback.format_exc())


def _tell_error(step: str, error: SoftpromptError, trace: str) -> NoReturn:
    tell(step, f"{trace}{error}", error=type(error).__name__, what=error.what, facts=error.facts, trace=trace)
    sys.exit(error.exit_code)
