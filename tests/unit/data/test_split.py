"""The split: by content, in expectation, clusters whole, whatever the order and the company."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.data.measure import place_of
from softprompt.data.rows import Row
from softprompt.data.split import TEST, TRAIN, VALIDATION, joined, leaders, moved, split
from softprompt.recipe.dataset import SplitSpec

SPEC = SplitSpec(validation=0.2, test=0.3, seed=4)


def digests(texts, seed=SPEC.seed):
    names = [Row("x", 1, {"text": text}, "y").input_digest for text in texts]
    return np.array([int(name[:16], 16) for name in names], np.uint64), np.array([place_of(name, seed) for name in names])


def parts(texts, groups=None, spec=SPEC):
    digest, place = digests(texts, spec.seed)
    cluster = np.arange(len(texts)) if groups is None else np.asarray(groups)
    return dict(zip(texts, split(place, digest, cluster, spec).tolist(), strict=True))


def test_shares_are_met_in_expectation():
    found = list(parts([f"row {number}" for number in range(5000)]).values())
    for part, share in ((TEST, 0.3), (VALIDATION, 0.2), (TRAIN, 0.5)):
        assert found.count(part) / len(found) == pytest.approx(share, abs=0.02)


def test_labels_are_divided_alike():
    texts = [f"{label} {number}" for number in range(1500) for label in ("a", "b")]
    found = parts(texts)
    share = [np.mean([found[text] == TEST for text in texts if text[0] == label]) for label in "ab"]
    assert share == pytest.approx([0.3, 0.3], abs=0.03)


def test_rows_stay_where_they_are_when_others_come():
    texts = [f"row {number}" for number in range(300)]
    before = parts(texts)
    mixed = texts + [f"new {number}" for number in range(100)]
    random.Random(0).shuffle(mixed)
    after = parts(mixed)
    assert all(after[text] == part for text, part in before.items())


def test_another_seed_is_another_division():
    texts = [f"row {number}" for number in range(100)]
    assert parts(texts) != parts(texts, spec=SPEC.model_copy(update={"seed": 5}))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.randoms())
def test_a_cluster_is_never_torn_and_does_not_depend_on_the_order(groups, rng):
    texts = [f"row {number}" for number in range(len(groups))]
    found = parts(texts, groups)
    together = {group: {found[text] for text, own in zip(texts, groups, strict=True) if own == group} for group in groups}
    assert all(len(names) == 1 for names in together.values())
    order = list(range(len(texts)))
    rng.shuffle(order)
    assert parts([texts[i] for i in order], [groups[i] for i in order]) == found


def test_a_cluster_goes_where_its_smallest_digest_goes_and_who_moved_is_known():
    texts = [f"row {number}" for number in range(40)]
    digest, place = digests(texts)
    cluster = np.repeat(np.arange(10), 4)
    part = split(place, digest, cluster, SPEC)
    alone = split(place, digest, np.arange(40), SPEC)
    for group in range(10):
        members = np.nonzero(cluster == group)[0]
        leader = members[np.argmin(digest[members])]
        assert set(leaders(digest, cluster)[members].tolist()) == {leader}
        assert (part[members] == alone[leader]).all()
    assert moved(place, part, SPEC).tolist() == np.nonzero(part != alone)[0].tolist() != []


def test_groupings_are_joined_through_each_other_and_minus_one_joins_nothing():
    assert joined([0, 0, 1, 2, 3], [-1, 5, 5, -1, -1]).tolist() == [0, 0, 0, 3, 4]
