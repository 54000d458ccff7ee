"""A population's state on disk, complete or absent.

Whoever copies a checkpoint may copy its files in any order and be killed in between. So the manifest, which is written last,
states the sha256 of the tensors; a folder without a manifest that holds is no checkpoint.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from softprompt.documents import canonical_json
from softprompt.fetch import file_sha256
from softprompt.recipe.training import Candidate
from softprompt.tuning.loop import LoopState
from softprompt.tuning.population import PopulationState, Run
from softprompt.tuning.training_log import Measurement, Outcome

TENSORS_FILE, MANIFEST_FILE = "state.safetensors", "state.json"


def save_checkpoint(directory: Path, state: PopulationState, facts: dict[str, Any]) -> None:
    """Write a state into an empty directory, manifest last.

    Args:
        directory: Exists and is empty.
        state: What to keep.
        facts: More that the reader of the last checkpoint needs, as JSON.
    """
    save_file({name: value for run in state.runs for name, value in _tensors(run).items()}, directory / TENSORS_FILE)
    manifest = {
        "sha256": file_sha256(directory / TENSORS_FILE),
        "runs": [_plain(run) for run in state.runs],
        "outcome": state.outcome.model_dump(mode="json") if state.outcome else None,
        "max_accuracy_loss": state.max_accuracy_loss,
        "facts": facts,
    }
    draft = directory / f".{MANIFEST_FILE}"
    draft.write_bytes(canonical_json(manifest))
    draft.rename(directory / MANIFEST_FILE)


def load_checkpoint(directory: Path) -> tuple[PopulationState, dict[str, Any]] | None:
    """The state and facts in a directory, or None if it holds no complete checkpoint."""
    try:
        manifest = json.loads((directory / MANIFEST_FILE).read_bytes())
        if file_sha256(directory / TENSORS_FILE) != manifest["sha256"]:
            return None
    except (OSError, ValueError):
        return None
    tensors = load_file(directory / TENSORS_FILE)
    runs = [_run(plain, tensors) for plain in manifest["runs"]]
    outcome = Outcome.model_validate_json(canonical_json(manifest["outcome"])) if manifest["outcome"] else None
    return PopulationState(runs, outcome, manifest.get("max_accuracy_loss")), manifest["facts"]


def _tensors(run: Run) -> dict[str, Tensor]:
    """A run's tensors, each under its number and what it is."""
    return (
        {f"{run.number}/parameters/{name}": value for name, value in run.loop.parameters.items()}
        | {f"{run.number}/optimiser/{name}": value for name, value in run.loop.optimiser.items()}
        | {f"{run.number}/fairness/{name}": value for name, value in run.loop.fairness.items()}
        | {f"{run.number}/best_values": run.loop.best_values.contiguous()}
    )


def _plain(run: Run) -> dict[str, Any]:
    loop = run.loop
    return {
        "number": run.number,
        "candidate": run.candidate.model_dump(mode="json"),
        "dropped_at": run.dropped_at,
        "repeats": run.repeats,
        "step": loop.step,
        "stopped": loop.stopped,
        "best_step": loop.best_step,
        # JSON has no infinity; a score that was never set is absent.
        "best_score": list(loop.best_score) if loop.best_step else None,
        "measurements": [look.model_dump(mode="json") for look in loop.measurements],
    }


def _run(plain: dict[str, Any], tensors: dict[str, Tensor]) -> Run:
    def under(part: str) -> dict[str, Tensor]:
        start = f"{plain['number']}/{part}/"
        return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}

    looks = [Measurement.model_validate_json(canonical_json(look)) for look in plain["measurements"]]
    loop = LoopState(plain["step"], under("parameters"), under("optimiser"), tensors[f"{plain['number']}/best_values"])
    loop.fairness = under("fairness")
    loop.best_step, loop.stopped, loop.measurements = plain["best_step"], plain["stopped"], looks
    if plain["best_score"]:
        loop.best_score = (plain["best_score"][0], plain["best_score"][1])
    candidate = Candidate.model_validate_json(canonical_json(plain["candidate"]))
    return Run(plain["number"], candidate, loop, plain["dropped_at"], plain["repeats"])
