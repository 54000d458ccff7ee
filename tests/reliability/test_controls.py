"""The table of `make mutate-release` still fits the source: a check that moved would be taken out of nothing."""

import pytest

from tests.mutation.release import CONTROLS, ROOT, source_of


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_a_control_is_in_the_source_once_and_so_are_its_tests(control):
    assert source_of(control).count(control.old) == 1
    for test in control.tests:
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}" in (ROOT / file).read_text()
