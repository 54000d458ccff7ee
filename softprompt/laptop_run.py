"""The pipeline on a laptop: stand-ins for the cluster's services, KFP's local runner, a live display, a summary."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.local import Event, LocalRun, run_pipeline
from softprompt.artifact import PromptFile
from softprompt.deployment import laptop
from softprompt.display import PipelineDisplay
from softprompt.errors import SoftpromptError
from softprompt.evaluation.gate_report import GateReport
from softprompt.progress import EVENTS_VARIABLE
from softprompt.recipe.reader import read_recipe
from softprompt.registry import Registration
from softprompt.release.publish_prompt import PublishOutcome
from softprompt.resolve import Overrides, ResolvedRecipe, apply_overrides, find_recipe
from softprompt.run_summary import RunSummary, summarise
from softprompt.settings import Settings
from softprompt.tuning.training_log import TrainingLog

BRIEF_SPINNING = ("GOMP_SPINCOUNT", "10000")
"""torch's threads wait some microseconds awake, then sleep: on a laptop that is busy elsewhere, threads that keep spinning for
each other make training many times slower (docs/field-notes.md)."""


def run_on_laptop(
    arguments: dict[str, Any], settings: Settings, console: Console, on_event: Callable[[Event], None] | None = None
) -> RunSummary:
    """Run the pipeline here.

    Args:
        arguments: Pipeline parameters; `recipe` is a packaged name or a path.
        settings: Where the laptop's state lies.
        console: For the display.
        on_event: Hears everything that the display shows.

    Raises:
        SoftpromptError: What a step failed with.
    """
    check_recipe(arguments)
    began = time.monotonic()
    # KFP's output is followed by taking over sys.stdout, and a console writes to whatever that is: hold on to the real one.
    screen = Console(file=console.file, force_terminal=console.is_terminal, emoji=False)
    with laptop(settings), PipelineDisplay(screen) as display:

        def told(event: Event) -> None:
            display(event)
            if on_event:
                on_event(event)

        os.environ[EVENTS_VARIABLE] = "1"
        os.environ.setdefault(*BRIEF_SPINNING)
        run = run_pipeline(_portable(arguments), settings.runs, told)
    summary = _summary(run, time.monotonic() - began)
    (run.folder / "summary.json").write_bytes(summary.to_bytes())
    return summary


def check_recipe(arguments: dict[str, Any]) -> None:
    """Find what is wrong with a recipe and its overrides before any service starts.

    Raises:
        InvalidRecipe: Something is.
    """
    text, source, folder = find_recipe(arguments["recipe"])
    overrides = {key: value for key, value in arguments.items() if key != "recipe"}
    apply_overrides(read_recipe(text, source=source), Overrides(**overrides), folder)


def _portable(arguments: dict[str, Any]) -> dict[str, Any]:
    """A recipe's path as a URI, which means the same in every step's working directory."""
    path = Path(arguments["recipe"]).expanduser()
    return arguments | {"recipe": path.resolve().as_uri()} if path.is_file() else arguments


def _summary(run: LocalRun, total_seconds: float) -> RunSummary:
    files = {
        "resolved": ("resolve_recipe", "resolved_recipe"),
        "log": ("tune_prompt", "training_log"),
        "report": ("evaluate_prompt", "gate_report"),
        "registration": ("register_prompt", "registration"),
    }
    bytes_of = {name: _output(run, *place).read_bytes() for name, place in files.items()}
    publication = run.output("publish_prompt", "publication")
    return summarise(
        resolved=ResolvedRecipe.from_bytes(bytes_of["resolved"], source="resolve_recipe"),
        prompt=PromptFile.read(_output(run, "tune_prompt", "prompt")),
        log=TrainingLog.from_bytes(bytes_of["log"], source="tune_prompt"),
        report=GateReport.from_bytes(bytes_of["report"], source="evaluate_prompt"),
        registration=Registration.from_bytes(bytes_of["registration"], source="register_prompt"),
        publication=PublishOutcome.from_bytes(publication.read_bytes(), source="publish_prompt") if publication else None,
        seconds=run.seconds,
        total_seconds=total_seconds,
        report_page=_output(run, "evaluate_prompt", "report"),
        training_page=_output(run, "tune_prompt", "training_report"),
        folder=run.folder,
    )


def _output(run: LocalRun, step: str, name: str) -> Path:
    path = run.output(step, name)
    if path is None:
        raise SoftpromptError("A step left no output.", where=f"{run.folder}, {step}", expected=name)
    return path
