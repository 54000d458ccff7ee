"""A running pipeline in a terminal: one line a step, what it said last, and a bar where it knows how far it is.

On a terminal the lines are drawn in place; elsewhere (a log, CI) each event is a line of its own.
"""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

STEPS = {
    "resolve_recipe": "Resolve recipe",
    "validate_dataset": "Validate dataset",
    "tune_prompt": "Tune prompt",
    "evaluate_prompt": "Evaluate prompt",
    "register_prompt": "Register prompt",
    "publish_prompt": "Publish prompt",
    "explain_rejection": "Explain rejection",
}
ALWAYS_SHOWN = [step for step in STEPS if step not in ("publish_prompt", "explain_rejection")]


class PipelineDisplay:
    """Follows events; use as a context manager.

    Args:
        console: Where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._states: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._seconds: dict[str, float] = {}
        self._began: dict[str, float] = {}
        self._progress: dict[str, tuple[int, int]] = {}
        self._measured: dict[str, list[str]] = {}
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=8) if console.is_terminal else None

    def __enter__(self) -> "PipelineDisplay":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event of `pipelines.local`."""
        step = event["step"]
        if state := event.get("state"):
            self._states[step] = state
            self._began.setdefault(step, time.monotonic())
            self._seconds[step] = event.get("seconds", 0.0)
        if "text" in event:
            self._texts[step] = event["text"].splitlines()[0] if event["text"] else ""
        if "total" in event:
            self._progress[step] = (event["done"], event["total"])
            self._measured[step] = measured_lines(event)
        if not self._live and not event.get("error"):
            self._console.print(_line(event), markup=False, highlight=False, soft_wrap=True)

    def _draw(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for column in ({"width": 2}, {"no_wrap": True}, {"justify": "right", "width": 7}, {"ratio": 1, "overflow": "ellipsis"}):
            table.add_column(**column)
        for step, title in STEPS.items():
            if step in self._states or step in ALWAYS_SHOWN:
                table.add_row(self._mark(step), title, self._time(step), self._detail(step))
        return table

    def _mark(self, step: str) -> RenderableType:
        state = self._states.get(step)
        if state == "began":
            return Spinner("dots", style="cyan")
        return {"ended": Text("✓", "green"), "failed": Text("✗", "red")}.get(state or "", Text("·", "dim"))

    def _time(self, step: str) -> str:
        if self._states.get(step) == "began":
            return f"{time.monotonic() - self._began[step]:.0f} s"
        return f"{self._seconds[step]:.1f} s" if step in self._seconds else ""

    def _detail(self, step: str) -> RenderableType:
        text = Text(self._texts.get(step, ""), "dim", no_wrap=True, overflow="ellipsis")
        if self._states.get(step) == "began" and step in self._progress:
            done, total = self._progress[step]
            bar = ProgressBar(total=total, completed=done, width=40)
            if not self._measured[step]:
                return Group(text, bar)
            # The sentence says the same in one line, which a terminal of 80 columns would cut off where it matters.
            lines = [Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in self._measured[step]]
            return _stacked([Text(text.plain.partition(": ")[0], "dim"), bar, *lines])
        return text


def _stacked(lines: Sequence[RenderableType]) -> Table:
    """One below the other; a bar ends no line of its own in a group."""
    grid = Table.grid()
    for line in lines:
        grid.add_row(line)
    return grid


def measured_lines(event: dict[str, Any]) -> list[str]:
    """What a training measures while it runs, in lines of at most 48 columns; empty for events without measurements."""
    titles = {"training_loss": "loss", "validation_loss": "validation", "validation_accuracy": "accuracy"}
    losses = [f"{title} {event[name]:.3f}" for name, title in titles.items() if name in event]
    pace = [f"{event['tokens_per_second']:,.0f} tokens/s"] if "tokens_per_second" in event else []
    pace += [f"{duration(event['seconds_left'])} left"] if "seconds_left" in event else []
    pace += [f"{event['alive']} of {event['num_candidates']} alive"] if event.get("num_candidates", 1) > 1 else []
    return ["  ".join(parts) for parts in (losses, pace) if parts]


def duration(seconds: float) -> str:
    """Seconds for a person who waits: `40 s`, `3 min`, `2 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _line(event: dict[str, Any]) -> str:
    title = STEPS[event["step"]]
    state = event.get("state")
    if state == "began":
        return f"{title} ..."
    if state:
        return f"{title}: {'done' if state == 'ended' else state} in {event['seconds']:.1f} s"
    return f"  {event['text']}"
