"""Near duplicates: the pairs that MinHash finds are those that comparing all with all finds."""

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt.data.near import clusters, piece_hashes, signatures, similar_pairs

WORDS = ["parcel", "invoice", "refund", "card", "app", "late", "lost", "wrong", "please", "when", "where", "why", "the", "my"]


def pieces(text: str) -> set[str]:
    padded = text.ljust(5)
    return {padded[i : i + 5] for i in range(len(padded) - 4)}


def jaccard(one: str, other: str) -> float:
    return len(pieces(one) & pieces(other)) / len(pieces(one) | pieces(other))


def some_texts(seed: int) -> list[str]:
    """Texts, and copies of some with small changes."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 30))) for _ in range(150)]
    changed = [text + rng.choice(["!", " x", " now", "s"]) for text in rng.sample(texts, 40)]
    return list(dict.fromkeys(texts + changed))


@settings(max_examples=200)
@given(st.lists(st.text(max_size=12), max_size=8))
def test_piece_hashes_are_those_of_each_text_by_itself(texts):
    hashes, starts = piece_hashes(texts)
    bounds = starts.tolist()
    assert len(bounds) == len(texts) + 1
    for number, text in enumerate(texts):
        mine = hashes[bounds[number] : bounds[number + 1]].tolist()
        assert mine == piece_hashes([text])[0].tolist()
        assert len(mine) == max(len(text), 5) - 4
        assert len(set(mine)) == len(pieces(text))


@pytest.mark.parametrize("limit", [0.6, 0.8, 0.9])
def test_pairs_are_those_of_a_comparison_of_all_with_all(limit):
    found, wanted = set(), set()
    for seed in range(2):
        texts = some_texts(seed)
        near = signatures(texts)
        found |= {
            (seed, *sorted(pair[:2])) for pair in similar_pairs(near, limit, lambda rows, texts=texts: [texts[r] for r in rows])
        }
        wanted |= {(seed, i, j) for i, j in combinations(range(len(texts)), 2) if jaccard(texts[i], texts[j]) >= limit}
    assert found <= wanted, "a pair that is reported is that similar"
    assert len(wanted) > 20
    assert len(found) >= 0.97 * len(wanted)


def test_the_similarity_that_is_told_is_exact():
    texts = some_texts(1)
    for one, other, told in similar_pairs(signatures(texts), 0.8, lambda rows: [texts[r] for r in rows]):
        assert told == pytest.approx(jaccard(texts[one], texts[other]))


def test_many_texts_alike_are_one_cluster_at_a_linear_price():
    texts = [f"the very same complaint about a parcel that has not come yet, number {number}" for number in range(2000)]
    looked = 0

    def texts_of(rows):
        nonlocal looked
        looked += len(rows)
        return [texts[row] for row in rows]

    pairs = [(one, other) for one, other, _ in similar_pairs(signatures(texts), 0.8, texts_of)]
    assert len(np.unique(clusters(len(texts), pairs))) < 20
    assert len(pairs) < 40 * len(texts)
    assert looked < 40 * len(texts)


def test_clusters_join_through_others_and_are_named_by_their_first():
    assert clusters(6, [(4, 1), (1, 5)]).tolist() == [0, 1, 2, 3, 1, 1]
    assert clusters(0, []).tolist() == []


def test_nothing_gives_nothing():
    assert signatures([]).shape == (0, 32)
    assert list(similar_pairs(signatures([]), 0.9, list)) == []
