"""What the pipeline's tests share."""

import inspect
from collections.abc import Iterator
from functools import partial

import pytest


@pytest.fixture(autouse=True, scope="package")
def callers_without_their_source() -> Iterator[None]:
    """KFP asks for its callers' names, 49 times a compilation, and gets their lines of source with them.

    From a command that costs nothing worth mentioning; behind pytest's frames and modules it is seconds a compilation.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect, "stack", partial(inspect.stack, 0))
        yield
