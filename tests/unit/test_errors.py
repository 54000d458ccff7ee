"""The exception hierarchy keeps its promises."""

import re

import pytest

from softprompt import errors
from softprompt.errors import DatasetRefused, SoftpromptError, error_of


def test_the_drawing_at_the_top_of_the_file_is_the_hierarchy():
    drawn = dict(re.findall(r"(\w+) +(\d)  ", errors.__doc__))
    actual = {
        name: str(kind.exit_code)
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, SoftpromptError)
    }
    assert drawn == actual


def test_a_message_says_what_where_expected_actual_and_what_to_do():
    error = DatasetRefused("It was refused.", where="rows.csv:3", expected="text", actual="nothing", hint="Write some.")
    assert str(error).splitlines() == [
        "It was refused.",
        "  where:    rows.csv:3",
        "  expected: text",
        "  actual:   nothing",
        "  to do:    Write some.",
    ]


def test_an_error_survives_being_written_down():
    error = DatasetRefused("It was refused.", where="rows.csv:3")
    again = error_of(type(error).__name__, error.what, error.facts)
    assert type(again) is DatasetRefused
    assert str(again) == str(error)


def test_an_unknown_error_is_a_fault_of_ours():
    assert error_of("Nonsense", "x", {}).exit_code == 1


@pytest.mark.parametrize("code", range(1, 8))
def test_every_exit_code_has_an_error(code):
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SoftpromptError)]
    assert any(kind.exit_code == code for kind in kinds)
