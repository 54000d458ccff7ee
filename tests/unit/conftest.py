"""What unit tests share: one thread, since tiny models are slower on two, a real S3 server, and storage of both kinds."""

import pytest

from softprompt.embedded.s3 import embedded_s3


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """One thread for torch in unit tests."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A real S3 server."""
    with embedded_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def storage(request, tmp_path, monkeypatch):
    """Somewhere that several machines see: a folder, and a place on an S3 server."""
    if request.param == "folder":
        return str(tmp_path / "storage")
    for name, value in request.getfixturevalue("s3_server").environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://softprompt/{tmp_path.name}/storage"
