"""What a deployment says about its RayJobs: every field has a variable, and what cannot be is refused by its name."""

from dataclasses import fields

import pytest

from softprompt.errors import InvalidRequest
from softprompt.rayjob.settings import RayJobSettings, amount
from softprompt.settings import __doc__ as table


def test_without_anything_the_defaults_hold():
    assert RayJobSettings.from_environment({}) == RayJobSettings()


def test_every_field_is_read_from_its_variable_and_stands_in_the_table_of_settings():
    for field in fields(RayJobSettings):
        value = "7" if field.type == "int" or field.type is int else "3Gi"
        others = {"SOFTPROMPT_RAYJOB_MAX_WORKERS": "9"}
        found = RayJobSettings.from_environment(others | {f"SOFTPROMPT_RAYJOB_{field.name.upper()}": value})
        assert str(getattr(found, field.name)) == value
        assert f"SOFTPROMPT_RAYJOB_{field.name.upper()}" in table


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CPU", "two"),
        ("CPU", "-1"),
        ("MEMORY", "4 GB"),
        ("NUM_CPUS", "1.5"),
        ("RETRIES", "-1"),
        ("DEADLINE_SECONDS", "0"),
        ("MIN_WORKERS", "0"),
        ("MIN_WORKERS", "2"),
        ("TTL_SECONDS", "9999999999"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(name, value):
    with pytest.raises(InvalidRequest) as refusal:
        RayJobSettings.from_environment({f"SOFTPROMPT_RAYJOB_{name}": value})
    assert refusal.value.where.startswith("SOFTPROMPT_RAYJOB_")


@pytest.mark.parametrize(("quantity", "number"), [("100m", 0.1), ("2", 2), ("1.5", 1.5), ("4Gi", 4 * 2**30), ("2G", 2e9)])
def test_quantities_are_those_of_kubernetes(quantity, number):
    assert amount(quantity, where="here") == pytest.approx(number)
