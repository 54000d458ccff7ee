"""Fixtures that many tests share; each is built once a session."""

import gc
import os
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from softprompt.step_work import GARBAGE_THRESHOLDS
from tests.builders import colour_rows, save_llama, save_t5, write_jsonl, write_recipe
from tests.runs import Run, finish_run, kill_run

# Machines are busy, so no deadlines. In CI the examples are always the same: what a change did not break must not fail there;
# on people's machines they are new each time.
hypothesis.settings.register_profile("unhurried", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("unhurried")

# As in a step: half a million objects of libraries stay, and looking through them again and again takes a fifth of collection.
gc.set_threshold(*GARBAGE_THRESHOLDS)

SHARED = Path(__file__).resolve().parents[2] / "shared"


SHARE_PIPELINE_RUNS = ("tests/steps/", *(f"tests/integration/test_{name}.py" for name in ("bad_input", "killed_run", "peft")))
"""Where tests look at the same runs of the pipeline, which take a minute each."""
LONGEST = ("tests/integration/test_readme.py", *SHARE_PIPELINE_RUNS)
"""What takes minutes begins first, so that no process works on it alone when the others have finished."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first; all others in their order."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The processes share the tests file by file, in order; what shares a run of the pipeline stays in one of them."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "runs" if nodeid.startswith(SHARE_PIPELINE_RUNS) else nodeid.split("::")[0]

    config.option.loadscopereorder = False  # else the files with the most tests come first
    return ByFile(config, log)


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the developer's own state; what Ray sets for the nodes of a cluster that is up stays."""
    ours = [name for name in os.environ if name.startswith(("SOFTPROMPT_", "MLFLOW_", "RAY_")) and name != "RAY_AUTH_MODE"]
    for name in ours:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SOFTPROMPT_HOME", str(tmp_path / "softprompt-home"))
    monkeypatch.setenv("SOFTPROMPT_CACHE", str(tmp_path / "softprompt-cache"))


@pytest.fixture(scope="session")
def llama_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama in the hub's layout."""
    return save_llama(tmp_path_factory.mktemp("bases") / "llama")


@pytest.fixture(scope="session")
def t5_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random T5 in the hub's layout."""
    return save_t5(tmp_path_factory.mktemp("bases") / "t5")


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A small dataset file."""
    return write_jsonl(tmp_path / "colours.jsonl", colour_rows())


@pytest.fixture(scope="session")
def passed_run(tmp_path_factory: pytest.TempPathFactory, llama_directory: Path) -> Run:
    """The whole pipeline through the command line with a gate that passes: a shallow prompt that the laptop's channel serves."""
    folder = tmp_path_factory.mktemp("passed")
    recipe = write_recipe(folder / "recipe.yaml", llama_directory, write_jsonl(folder / "colours.jsonl", colour_rows()))
    instruction = 'instruction: "What colour? {text}\\nColour:"'
    recipe.write_text(recipe.read_text().replace("bootstrap_samples: 200", f"bootstrap_samples: 200, {instruction}"))
    return finish_run(recipe, llama_directory, folder / "home")


@pytest.fixture(scope="session")
def run_after_kill(passed_run: Run) -> Run:
    """The same recipe in the same place, after a run of it was killed while it trained."""
    lines = kill_run(passed_run.recipe, passed_run.home, lambda line: "step 3/6" in line)
    return finish_run(passed_run.recipe, passed_run.base, passed_run.home, lines_before_kill=lines)


@pytest.fixture(scope="session")
def rejected_run(tmp_path_factory: pytest.TempPathFactory, llama_directory: Path) -> Run:
    """The whole pipeline with a gate that nothing passes, and a deep prompt that is trained with noise."""
    folder = tmp_path_factory.mktemp("rejected")
    rows = write_jsonl(folder / "colours.jsonl", colour_rows())
    recipe = write_recipe(folder / "recipe.yaml", llama_directory, rows, kind="deep", floor=1.0)
    recipe.write_text(recipe.read_text().replace("training: {", "training: {input_noise: 0.2, "))
    return finish_run(recipe, llama_directory, folder / "home")


@pytest.fixture(scope="session")
def banking77() -> Path:
    """Real customer messages; not part of the project."""
    folder = SHARED / "data" / "banking77"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


@pytest.fixture(scope="session")
def reference_base() -> Path:
    """A small pretrained base of real English; not part of the project."""
    folder = SHARED / "models" / "reference-base"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder
