"""Templates: one pass, so that no value is ever read as a template."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import InvalidRequest
from softprompt.template import fill_template, template_fields, values_for


def test_fields_in_order_of_first_use():
    assert template_fields("{b} {{not}} {a} {b}") == ("b", "a")


@given(st.text())
def test_a_value_is_text_whatever_braces_it_has(value):
    assert fill_template("<{text}>{{x}}", {"text": value}) == f"<{value}>{{x}}"


@pytest.mark.parametrize("template", ["{", "a } b", "{a.b}", "{a!r}", "{a[0]}", "{}", "{ a }"])
def test_what_is_not_a_plain_field_is_refused(template):
    with pytest.raises(ValueError, match=r"brace|plain column"):
        template_fields(template)


def test_one_text_fills_a_template_with_one_field():
    assert values_for("{text}!", "hello") == {"text": "hello"}


@pytest.mark.parametrize("given_values", ["hello", {"a": "x"}, {"a": "x", "b": "y", "c": "z"}])
def test_values_that_do_not_fit_are_refused(given_values):
    with pytest.raises(InvalidRequest, match="does not fit"):
        values_for("{a} {b}", given_values)
