"""Validation that is killed with SIGKILL, at every step and at any time: no half artifact, and the next run is as ever."""

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from softprompt.data.dataset import read_manifest, read_part
from tests.examining import jsonl, resolved, sound_tickets

ROOT = Path(__file__).resolve().parents[2]
FEWEST_STEPS = 20
AGAIN_AFTER = 4
"""After every so many kills the run is done again: it costs as much as the kill."""


class Validator:
    """The process of `tests/validation_kills.py`."""

    def __init__(self, folder: Path) -> None:
        recipe = resolved(folder, {"rows.jsonl": jsonl(sound_tickets(100))}, dataset="id_column: id")
        (folder / "resolved.json").write_bytes(recipe.to_bytes())
        command = [sys.executable, "-m", "tests.validation_kills", str(folder / "resolved.json")]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, *command: object) -> str:
        """Give a command, wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, command)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def validator(tmp_path_factory):
    validator = Validator(tmp_path_factory.mktemp("validator"))
    yield validator
    validator.process.stdin.close()
    validator.process.wait(timeout=60)
    validator.process.stdout.close()


@pytest.fixture(scope="module")
def undisturbed(validator, tmp_path_factory) -> tuple[dict[str, str], float]:
    """What a run that nothing disturbs writes, and the seconds it takes."""
    folder, start = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
    assert validator("whole", folder) == "finished"
    seconds = time.monotonic() - start
    assert {path.name for path in folder.iterdir()} == {"dataset", "dataset.html", "dataset.html.json"}, "no draft is left"
    return hashes(folder), seconds


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "dataset").iterdir()}


def is_whole(folder: Path) -> bool:
    """Whether the artifact is there; one that is there has what it says."""
    if not (folder / "dataset").exists():
        return False
    manifest = read_manifest(folder / "dataset")
    assert {part: len(read_part(folder / "dataset", part)) for part in manifest.num_rows} == manifest.num_rows
    return True


def run_again(folder: Path, validator: Validator, expected: dict[str, str]) -> None:
    """The next run in the same place makes what an undisturbed one makes, and nothing else is left."""
    assert validator("whole", folder) == "finished"
    left = {path.name for path in folder.iterdir()}
    assert left == {"dataset", "dataset.html", "dataset.html.json"}, "drafts are swept away"
    assert hashes(folder) == expected


@pytest.mark.slow
def test_killed_at_any_step(validator, undisturbed, tmp_path):
    expected, _ = undisturbed
    outcomes, step = [], 0
    while True:
        folder = tmp_path / str(step)
        folder.mkdir()
        ended = validator("step", step, folder)
        if ended == "finished":
            break
        assert ended == "died"
        outcomes.append(is_whole(folder))
        if outcomes[-1]:
            assert hashes(folder) == expected
        elif step % AGAIN_AFTER == 0:
            run_again(folder, validator, expected)
        step += 1
    assert step >= FEWEST_STEPS, "the steps were counted"
    assert outcomes == sorted(outcomes), "once there, it stays there"
    assert {True, False} == set(outcomes), "killed before the artifact appeared, and after"


def test_killed_at_any_time(validator, undisturbed, tmp_path):
    expected, seconds = undisturbed
    dice = random.Random(4)
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        validator("after", dice.uniform(0, seconds), folder)
        if not is_whole(folder):
            run_again(folder, validator, expected)
