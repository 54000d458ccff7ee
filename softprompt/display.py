"""A running pipeline in a terminal: one line a step, what it said last, and a bar where it knows how far it is.

On a terminal the lines are drawn in place; elsewhere (a log, CI) each event is a line of its own.
"""

import time
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
            return Group(text, ProgressBar(total=total, completed=done, width=40))
        return text


def _line(event: dict[str, Any]) -> str:
    title = STEPS[event["step"]]
    state = event.get("state")
    if state == "began":
        return f"{title} ..."
    if state:
        return f"{title}: {'done' if state == 'ended' else state} in {event['seconds']:.1f} s"
    return f"  {event['text']}"
