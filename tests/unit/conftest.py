"""Tiny models are slower on two threads than on one."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """One thread for torch in unit tests."""
    import torch

    torch.set_num_threads(1)
