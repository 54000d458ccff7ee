"""Texts that are almost the same: MinHash finds pairs worth a look (Broder 1997), the exact Jaccard similarity decides."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

PIECE_CHARACTERS = 5
NUM_HASHES = 32
SEED = 1
SURE = 0.99
"""Chance that a pair exactly at the limit is looked at; more similar pairs have more."""
MARGIN = 0.25
"""An estimate from 32 hashes this far below the limit (three standard deviations) saves the exact look."""
PAIRS_AT_ONCE = 4096

Signatures = NDArray[np.uint32]
Pair = tuple[int, int]


def piece_hashes(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Hashes of every run of five characters of every text, one after the other, and where each text's begin (and the end)."""
    padded = [text.ljust(PIECE_CHARACTERS) for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    ends = np.cumsum([len(text) for text in padded])
    if not len(codes):
        return codes, np.zeros(1, np.uint64)
    hashes = np.zeros(len(codes) - PIECE_CHARACTERS + 1, np.uint64)
    for place in range(PIECE_CHARACTERS):
        hashes = (hashes + codes[place : len(hashes) + place]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    crossing = (ends[:-1, None] - np.arange(PIECE_CHARACTERS - 1, 0, -1)).ravel()  # runs that reach into the next text
    starts = np.concatenate([[0], ends]) - (PIECE_CHARACTERS - 1) * np.arange(len(texts) + 1)
    starts[-1] = len(hashes) - len(crossing)
    return np.delete(hashes, crossing), starts.astype(np.uint64)


def signatures(texts: Sequence[str]) -> Signatures:
    """MinHash signatures `[R, 32]` of texts that are normalised already."""
    from rensa import RMinHash

    if not texts:
        return np.zeros((0, NUM_HASHES), np.uint32)
    hashes, starts = piece_hashes(texts)
    rows = RMinHash.digest_matrix_from_flat_token_hashes(hashes, starts, NUM_HASHES, SEED).to_rows()
    return np.fromiter(chain.from_iterable(rows), np.uint32, len(texts) * NUM_HASHES).reshape(-1, NUM_HASHES)


def similar_pairs(
    found: Signatures, similarity: float, texts_of: Callable[[Sequence[int]], Sequence[str]]
) -> Iterator[tuple[int, int, float]]:
    """Pairs of texts at least so similar, each once, with their similarity.

    Among many texts that share a band, each is compared with the first and with the one before it, not with all: enough to
    join them into one cluster, and linear in their number.

    Args:
        found: Signatures of the texts; no two texts should be equal.
        similarity: Jaccard similarity of the sets of pieces.
        texts_of: The normalised texts at some places.
    """
    pairs = _candidates(found, similarity)
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        some = pairs[start : start + PAIRS_AT_ONCE]
        places = np.unique(some).tolist()
        sets = dict(zip(places, _piece_sets(texts_of(places)), strict=True))
        for one, other in some.tolist():
            jaccard = _jaccard(sets[one], sets[other])
            if jaccard >= similarity:
                yield one, other, jaccard


def clusters(num_texts: int, pairs: Sequence[Pair] | NDArray[np.int64]) -> NDArray[np.int64]:
    """For each text the first text of its cluster: texts joined by pairs, directly or through others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(num_texts, num_texts))
    _, names = connected_components(graph, directed=False)
    _, first = np.unique(names, return_index=True)
    found: NDArray[np.int64] = first[names].astype(np.int64)
    return found


def _candidates(found: Signatures, similarity: float) -> NDArray[np.int64]:
    """Pairs `[N, 2]` that share a band of their signatures and do not look too different, sorted."""
    width = _band_width(similarity)
    pairs = [np.zeros((0, 2), np.int64)]
    for start in range(0, NUM_HASHES, width):
        band = np.ascontiguousarray(found[:, start : start + width]).view(np.dtype((np.void, 4 * width))).ravel()
        _, name = np.unique(band, return_inverse=True)
        order = np.argsort(name, kind="stable")
        same = name[order][1:] == name[order][:-1]
        heads = np.concatenate([[0], np.nonzero(~same)[0] + 1])
        first = order[np.repeat(heads, np.diff(np.concatenate([heads, [len(order)]])))] if len(order) else order
        pairs += [np.stack([order[:-1][same], order[1:][same]], 1), np.stack([first[1:][same], order[1:][same]], 1)]
    unique = np.unique(np.concatenate(pairs), axis=0)
    if not len(unique):
        return unique
    pieces = np.array_split(unique, len(unique) // 2**16 + 1)
    alike = np.concatenate([(found[some[:, 0]] == found[some[:, 1]]).mean(1) for some in pieces])
    worth: NDArray[np.int64] = unique[alike >= similarity - MARGIN]
    return worth


def _band_width(similarity: float) -> int:
    """The widest band that still catches a pair at the limit almost surely: wider ones give fewer false candidates."""
    for width in (8, 4, 2):
        if 1 - (1 - similarity**width) ** (NUM_HASHES // width) >= SURE:
            return width
    return 1


def _piece_sets(texts: Sequence[str]) -> list[set[int]]:
    hashes, starts = piece_hashes(texts)
    values, ends = hashes.tolist(), starts.tolist()
    return [set(values[start:end]) for start, end in pairwise(ends)]


def _jaccard(one: set[int], other: set[int]) -> float:
    both = len(one & other)
    return both / (len(one) + len(other) - both)
