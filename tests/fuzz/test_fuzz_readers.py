"""The fuzzer of the dataset readers, a few thousand inputs each time and a million on request."""

import random

import pytest

from tests.fuzz import fuzz_readers


def test_spoilt_inputs_are_refused_and_nothing_worse():
    tally = fuzz_readers.fuzz(5_000, seed=1)
    assert tally.failures == []
    # Spoiling must not be so crude that nothing is read beyond the header.
    assert tally.records > 1_000
    assert tally.faults > 100
    assert 1_000 < tally.refused < 4_500


@pytest.mark.soak
def test_a_million_spoilt_inputs():
    assert fuzz_readers.fuzz(1_000_000, seed=0).failures == []


def test_the_fuzzer_notices_what_it_looks_for(monkeypatch):
    def broken(files):
        raise KeyError(files[0].name)

    monkeypatch.setattr(fuzz_readers, "read_records", broken)
    assert len(fuzz_readers.fuzz(3, seed=0).failures) == 3


def test_spoiling_is_repeatable():
    data = fuzz_readers.seed_files()["a.jsonl"]
    spoilt = [fuzz_readers.spoil(random.Random("0:1"), data, data) for _ in range(2)]
    assert spoilt[0] == spoilt[1] != data
