"""The `softprompt` command in tests: as a process of its own, in a state folder of its own, on a tiny base model."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from softprompt.documents import parse_json
from softprompt.run_summary import RunSummary

SOFTPROMPT = Path(sys.executable).with_name("softprompt")
TITLES = {
    "resolve_recipe": "Resolve recipe",
    "validate_dataset": "Validate dataset",
    "tune_prompt": "Tune prompt",
    "evaluate_prompt": "Evaluate prompt",
    "register_prompt": "Register prompt",
    "publish_prompt": "Publish prompt",
}
SERVICES = ("SOFTPROMPT_", "MLFLOW_", "RAY_", "AWS_", "KFP_", "PYTEST_")
TIMEOUT_SECONDS = 900


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a command sees: none of the developer's services, and its own state."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SERVICES)}
    return clean | {"SOFTPROMPT_HOME": str(home), "SOFTPROMPT_CACHE": str(home / "cache"), "COLUMNS": "200"} | more


def softprompt(*arguments: object, home: Path, cwd: Path | None = None, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end; `more` goes into its environment."""
    return subprocess.run(
        [SOFTPROMPT, *map(str, arguments)],
        env=environment(home, **more),
        cwd=cwd or home.parent,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def kill_run(recipe: Path, home: Path, when: Callable[[str], bool], *, delay_seconds: float = 0.0) -> list[str]:
    """Start a run, and SIGKILL its whole process group once it has printed a line.

    Args:
        recipe: What to run.
        home: State folder.
        when: Whether a line is the one.
        delay_seconds: How long after the line.

    Returns:
        The lines that were printed until then.
    """
    command = [SOFTPROMPT, "run", str(recipe)]
    process = subprocess.Popen(
        command,
        env=environment(home),
        cwd=home.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if when(lines[-1]):
                time.sleep(delay_seconds)
                break
        else:
            raise AssertionError("the run ended before it was killed:\n" + "\n".join(lines))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    return lines


def processes_of(home: Path) -> dict[int, str]:
    """Processes that were started for a state folder and still run: id -> command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, NotADirectoryError):
            continue
        if f"SOFTPROMPT_HOME={home}".encode() in variables and command:
            found[int(folder.name)] = command
    return found


@dataclass(frozen=True)
class Run:
    """A finished `softprompt run --json` and what it left."""

    home: Path
    recipe: Path
    base: Path
    process: "subprocess.CompletedProcess[str]"
    summary_file: Path
    lines_before_kill: list[str] = field(default_factory=list)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The summary as anybody's program reads it."""
        return dict(parse_json(self.summary_file.read_bytes(), source="summary", max_bytes=10**6))

    @cached_property
    def summary(self) -> RunSummary:
        """The summary as we read it."""
        return RunSummary.from_bytes(self.summary_file.read_bytes(), source="summary")

    def output(self, step: str, name: str) -> Path:
        """Where a step put an output, whether it did or not."""
        (folder,) = Path(self.summary.folder).glob("prompt-tuning-*")
        return folder / step.replace("_", "-") / name

    def artifact(self, step: str, name: str) -> dict[str, Any]:
        """What a step told KFP about an output artifact: its metadata."""
        content = parse_json(self.output(step, "executor_output.json").read_bytes(), source=step, max_bytes=10**7)
        return dict(content["artifacts"][name]["artifacts"][0]["metadata"])


def finish_run(recipe: Path, base: Path, home: Path, *arguments: str, lines_before_kill: list[str] | None = None) -> Run:
    """`softprompt run` to its end."""
    summary_file = home.parent / f"{time.time_ns()}.json"
    process = softprompt("run", recipe, "--json", summary_file, *arguments, home=home)
    assert summary_file.is_file(), f"the run ended with {process.returncode}\n{process.stdout}{process.stderr}"
    return Run(home, recipe, base, process, summary_file, lines_before_kill or [])
