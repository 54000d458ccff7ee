"""Documents: strict to read, canonical to write."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.documents import Document, canonical_json, parse_json
from softprompt.errors import VerificationFailed


class Sample(Document):
    """A document for these tests."""

    max_bytes = 1000
    number: int
    share: float = 0.5
    names: tuple[str, ...] = ()


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_canonical_json_reads_back_and_is_stable(value):
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(parse_json(data, source="x", max_bytes=10**6)) == data


def test_key_order_does_not_matter():
    assert (
        canonical_json({"b": 1, "a": [2.0, "é"]}) == canonical_json({"a": [2.0, "é"], "b": 1}) == '{"a":[2.0,"é"],"b":1}'.encode()
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"number": 1, "number": 2}', "duplicate key 'number'"),
        (b'{"number": 1, "share": NaN}', "NaN"),
        (b'{"number": 1, "share": 1e999}', "not JSON compliant"),
        (b'{"number": 1, "names": ["\\ud800"]}', "surrogates"),
        (b'{"number": 1', "delimiter"),
        (b"\xff\xfe", "decode"),
        (b'{"number": "1"}', "valid integer"),
        (b'{"number": 1, "more": 2}', "Extra inputs"),
        (b'{"share": 1}', "Field required"),
        (b'{"number": 1, "names": "' + b"x" * 2000 + b'"}', "<= 1000 bytes"),
    ],
)
def test_what_is_not_strict_is_refused_by_name(data, reason):
    with pytest.raises(VerificationFailed) as caught:
        Sample.from_bytes(data, source="the file")
    assert "the file" in str(caught.value)
    assert reason in str(caught.value)


def test_deep_nesting_is_refused_and_not_a_crash():
    with pytest.raises(VerificationFailed):
        parse_json(b"[" * 100_000, source="x", max_bytes=10**6)


def test_a_document_round_trips():
    sample = Sample(number=3, names=("a", "b"))
    assert Sample.from_bytes(sample.to_bytes(), source="x") == sample
    assert len(sample.digest) == 64


def test_a_key_that_is_there_twice_among_very_many_is_found_at_once():
    keys = [f'"{number}":0' for number in range(200_000)]
    data = ("{" + ",".join([*keys, keys[-1]]) + "}").encode()
    began = time.process_time()
    with pytest.raises(VerificationFailed, match="not strict JSON"):
        parse_json(data, source="x", max_bytes=10**8)
    assert time.process_time() - began < 10, "looking for each key among all of them took minutes"
