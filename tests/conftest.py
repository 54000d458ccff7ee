"""Fixtures that many tests share; each is built once a session."""

import os
from pathlib import Path

import pytest

from tests.builders import colour_rows, save_llama, save_t5, write_jsonl

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the developer's own state."""
    for name in [name for name in os.environ if name.startswith(("SOFTPROMPT_", "MLFLOW_", "RAY_"))]:
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
