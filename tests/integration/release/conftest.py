"""A place to promote prompts in, new for each test; its server and the empty registry are made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from softprompt.embedded.s3 import embedded_s3
from tests.promotion import Promotion, empty_registry


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real S3 server over HTTP, as environment variables."""
    with embedded_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running.environment()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, to be copied."""
    return empty_registry(tmp_path_factory.mktemp("registry") / "mlflow.db")


@pytest.fixture
def place(tmp_path: Path, server: dict[str, str], registry: Path, monkeypatch: pytest.MonkeyPatch) -> Promotion:
    """Channel, keys, registry and repository."""
    return Promotion.begin(tmp_path / "place", server, registry, monkeypatch.setenv)
