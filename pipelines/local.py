"""Run the pipeline on this machine with KFP's own local runner, and follow it event by event.

The local runner prints a great deal. Its output goes to a log file; what a person needs comes out as events: a step began, told
something, ended, failed.
"""

import contextlib
import io
import json
import re
import time
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softprompt.errors import SoftpromptError, error_of
from softprompt.progress import read_event

Event = dict[str, Any]
_BEGINS = re.compile(r"Executing task \S*'([\w-]+)'")
_ENDS = re.compile(r"Task \S*'([\w-]+)'\S* finished with status \S*?(SUCCESS|FAILURE|SKIPPED)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class LocalRun:
    """A finished run of the pipeline on this machine.

    Attributes:
        folder: Where its outputs are.
        seconds: Step -> seconds it took, process start included.
        events: What its steps told, in order.
    """

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def output(self, step: str, name: str) -> Path | None:
        """The file of an output, or None if the step did not run."""
        found = sorted(self.folder.glob(f"prompt-tuning-*/{step.replace('_', '-')}/{name}"))
        return found[-1] if found else None

    def document(self, step: str, name: str) -> Any:
        """An output that is JSON, parsed; None if the step did not run."""
        path = self.output(step, name)
        return json.loads(path.read_bytes()) if path else None


def run_pipeline(arguments: dict[str, Any], runs: Path, on_event: Callable[[Event], None]) -> LocalRun:
    """Run the pipeline to its end.

    Args:
        arguments: Pipeline parameters.
        runs: Folder for the outputs of runs.
        on_event: Called as things happen: `{"step", "state": began|ended|failed}` or what the step tells.

    Raises:
        SoftpromptError: What a step failed with.
    """
    from kfp import local

    from pipelines.prompt_tuning import prompt_tuning

    run = LocalRun(runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}")
    run.folder.mkdir(parents=True)
    with (run.folder / "pipeline.log").open("w") as log:
        follower = _Follower(run, log, on_event)
        # KFP removes its workspace after a run, so every run begins with init.
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(run.folder),
            enable_caching=False,  # KFP's local cache misses every step with a Metrics artifact (docs/field-notes.md)
        )
        try:
            with contextlib.redirect_stdout(follower), warnings.catch_warnings():
                # It warns that an image without "python" in its name may not be Python.
                warnings.filterwarnings("ignore", category=RuntimeWarning, module="kfp.local")
                prompt_tuning(**arguments)
        except RuntimeError as error:
            raise follower.failure(error) from error
    return run


class _Follower(io.TextIOBase):
    """Standard output of the run: every line to the log, events to whoever follows."""

    def __init__(self, run: LocalRun, log: io.TextIOBase, on_event: Callable[[Event], None]) -> None:
        self._run, self._log, self._on_event = run, log, on_event
        self._line, self._began = "", 0.0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._take(_COLOUR.sub("", line))
        return len(text)

    def failure(self, error: RuntimeError) -> SoftpromptError:
        """The error of the step that failed, as it was told; else a fault of ours that names the log."""
        for event in reversed(self._run.events):
            if "error" in event:
                hint = f"{event['facts']['hint']} Log and outputs of the run are in {self._run.folder}.".lstrip()
                return error_of(event["error"], event["what"], event["facts"] | {"hint": hint})
        return SoftpromptError(
            "A step ended without saying why.", where=f"{self._run.folder}/pipeline.log", actual=_COLOUR.sub("", str(error))
        )

    def _take(self, line: str) -> None:
        self._log.write(line + "\n")
        self._log.flush()
        event = read_event(line)
        if event:
            self._tell(event)
        elif begins := _BEGINS.search(line):
            self._began = time.monotonic()
            self._tell({"step": _step(begins[1]), "state": "began"})
        elif ends := _ENDS.search(line):
            seconds = round(time.monotonic() - self._began, 3)
            self._run.seconds[_step(ends[1])] = seconds
            self._tell({"step": _step(ends[1]), "state": "ended" if ends[2] == "SUCCESS" else "failed", "seconds": seconds})

    def _tell(self, event: Event) -> None:
        self._run.events.append(event)
        self._on_event(event)


def _step(task: str) -> str:
    return task.replace("-", "_")
