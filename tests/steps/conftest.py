"""What the runs left in S3 and in MLflow, as others see it: over HTTP, and through MLflow's own client."""

import pytest

from softprompt.embedded.s3 import embedded_s3
from softprompt.release.store import open_store
from softprompt.tracking import mlflow_client


@pytest.fixture(scope="session")
def registry():
    """A function: run -> MLflow client on its laptop's database."""
    return lambda run: mlflow_client(f"sqlite:///{run.home}/mlflow.db")


@pytest.fixture(scope="session")
def objects():
    """A function: run -> key -> bytes of everything in its laptop's store."""

    def read(run):
        with embedded_s3(run.home / "s3") as server:
            store = open_store(server.uri, server.access)
            return {key: store.get(key, max_bytes=10**8) for key in store.list("")}

    return read
