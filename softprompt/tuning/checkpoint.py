"""A population's state on disk, complete or absent.

Whoever copies a checkpoint may copy its files in any order and be killed in between. So the manifest, which is written last,
states the sha256 of the tensors; a folder without a manifest that holds is no checkpoint.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from softprompt.documents import canonical_json
from softprompt.fetch import file_sha256
from softprompt.tuning.loop import LoopState
from softprompt.tuning.population import PopulationState
from softprompt.tuning.training_log import CandidateResult, Measurement

TENSORS_FILE, MANIFEST_FILE = "state.safetensors", "state.json"
_TENSORS = ("values", "mean", "square", "best_values")


def save_checkpoint(directory: Path, state: PopulationState, facts: dict[str, Any]) -> None:
    """Write a state into an empty directory, manifest last.

    Args:
        directory: Exists and is empty.
        state: What to keep.
        facts: More that the reader of the last checkpoint needs, as JSON.
    """
    loops = {"loop": state.loop, "best": state.best}
    tensors = {f"{name}.{field}": getattr(loop, field).cpu() for name, loop in loops.items() if loop for field in _TENSORS}
    save_file(tensors, directory / TENSORS_FILE)
    manifest = {
        "sha256": file_sha256(directory / TENSORS_FILE),
        "candidate": state.candidate,
        "winner": state.winner,
        "finished": [result.model_dump(mode="json") for result in state.finished],
        "measurements": [look.model_dump(mode="json") for look in state.measurements],
        "loops": {name: _plain(loop) for name, loop in loops.items() if loop},
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
    loops = {name: _loop(name, plain, tensors) for name, plain in manifest["loops"].items()}
    state = PopulationState(
        candidate=manifest["candidate"],
        loop=loops.get("loop"),
        finished=[CandidateResult.model_validate_json(canonical_json(result)) for result in manifest["finished"]],
        best=loops.get("best"),
        winner=manifest["winner"],
        measurements=[Measurement.model_validate_json(canonical_json(look)) for look in manifest["measurements"]],
    )
    return state, manifest["facts"]


def _plain(loop: LoopState) -> dict[str, Any]:
    looks = [look.model_dump(mode="json") for look in loop.measurements]
    # JSON has no infinity; a score that was never set is absent.
    score = list(loop.best_score) if loop.best_step else None
    return {"step": loop.step, "best_step": loop.best_step, "best_score": score, "measurements": looks}


def _loop(name: str, plain: dict[str, Any], tensors: dict[str, torch.Tensor]) -> LoopState:
    values, mean, square, best_values = (tensors[f"{name}.{field}"] for field in _TENSORS)
    looks = [Measurement.model_validate_json(canonical_json(look)) for look in plain["measurements"]]
    state = LoopState(plain["step"], values, mean, square, best_values, plain["best_step"], measurements=looks)
    if plain["best_score"]:
        state.best_score = (plain["best_score"][0], plain["best_score"][1])
    return state
