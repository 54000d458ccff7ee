"""Samples and folds: in proportion, complete, the same for the same seed, and no group divided."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt.data.statistics.sampling import deal_folds, number_labels, stratified_sample

label_lists = st.lists(st.sampled_from("aaaaabbc"), min_size=1, max_size=200)


def test_labels_are_numbered_in_their_sorted_order():
    names, ids = number_labels(["b", "a", "b"])
    assert (names, ids.tolist()) == (("a", "b"), [1, 0, 1])


@settings(deadline=None)
@given(label_lists, st.integers(1, 100), st.integers(0, 5))
def test_a_sample_has_each_label_in_proportion_and_at_least_once(labels, most, seed):
    names, ids = number_labels(labels)
    rows = stratified_sample(ids, most, seed)
    assert len(rows) == min(len(ids), max(most, len(names)))
    assert len(set(rows.tolist())) == len(rows)
    assert rows.tolist() == sorted(rows.tolist())
    counts, all_counts = Counter(ids[rows].tolist()), Counter(ids.tolist())
    for label, count in all_counts.items():
        assert counts[label] >= 1
        assert abs(counts[label] - count * len(rows) / len(ids)) <= len(names)


def test_a_frequent_label_stays_frequent():
    ids = np.array([0] * 900 + [1] * 100)
    assert np.bincount(ids[stratified_sample(ids, 100, 0)]).tolist() == [90, 10]


def test_another_seed_draws_other_rows_and_the_same_seed_the_same():
    ids = np.arange(1000) % 3
    first, again, other = (stratified_sample(ids, 100, seed).tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


@settings(deadline=None)
@given(label_lists, st.integers(2, 6), st.integers(0, 5))
def test_every_fold_has_its_part_of_each_label(labels, num_folds, seed):
    _, ids = number_labels(labels)
    folds = deal_folds(ids, num_folds, seed)
    for label in set(ids.tolist()):
        sizes = np.bincount(folds[ids == label], minlength=num_folds)
        assert sizes.max() - sizes.min() <= 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20)), min_size=1, max_size=100), st.integers(0, 5))
def test_no_group_is_in_two_folds(rows, seed):
    _, ids = number_labels([label for label, _ in rows])
    groups = [group for _, group in rows]
    folds = deal_folds(ids, 3, seed, groups)
    for group in set(groups):
        assert len({int(fold) for fold, other in zip(folds, groups, strict=True) if other == group}) == 1
