"""What has changed between two datasets, by their profiles.

A drift is told when it is both large enough to matter and beyond chance: large sets would make every trifle significant, small ones
every accident large. Sizes and their sources:

* labels, languages: Jensen-Shannon distance of at least 0.1 (corrected for chance), and a chi-squared test of homogeneity below
  0.001, kinds that are expected fewer than five times pooled (Cochran 1954). Two labels that go from 50:50 to 36:64 are 0.12 apart.
* lengths: Kolmogorov-Smirnov distance of at least 0.1, and beyond its critical value at 0.001, 1.95 sqrt(1/n + 1/m) (Smirnov 1948).
* words: Jensen-Shannon distance of at least 0.25 (corrected), or at least a tenth of the new words unknown. Rabanser et al. 2019,
  "Failing Loudly", find such univariate two-sample tests the most dependable. Profiles keep no rare words, so a word that one of
  them lacks is taken to have been just too rare for it, where that can be.
* new and vanished labels: facts, told whatever their number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from softprompt.data.statistics.entropy import jensen_shannon
from softprompt.data.statistics.profile import FEWEST_ROWS_A_WORD, MOST_WORDS, DatasetProfile

LARGEST_DISTANCE = 0.1
LARGEST_WORD_DISTANCE = 0.25
MOST_UNKNOWN_WORDS = 0.1
SIGNIFICANCE = 0.001
SMIRNOV = 1.95
"""Critical value of sqrt(n m / (n + m)) times the Kolmogorov-Smirnov distance at `SIGNIFICANCE`."""
FEWEST_EXPECTED = 5.0
MOST_NAMED = 5


@dataclass(frozen=True)
class Drift:
    """One thing that has changed.

    Attributes:
        what: Which.
        statistic: How much.
        threshold: From where on it is told.
        sentence: What changed, for a person.
    """

    what: Literal["new_labels", "vanished_labels", "labels", "languages", "characters", "tokens", "words", "unknown_words"]
    statistic: float
    threshold: float
    sentence: str


def drift(old: DatasetProfile, new: DatasetProfile) -> list[Drift]:
    """What is different in the new dataset; empty where nothing is, or where one of them has no rows."""
    if not old.num_rows or not new.num_rows:
        return []
    found = [
        _only_in("new_labels", "Labels that the earlier dataset did not have", new.labels, old.labels),
        _only_in("vanished_labels", "Labels that are no more", old.labels, new.labels),
        _shifted("labels", old.labels, new.labels),
        _shifted("languages", old.languages, new.languages),
        _resized("characters", old.characters, new.characters, old.num_rows, new.num_rows),
        _resized("tokens", old.tokens, new.tokens, old.num_rows, new.num_rows),
        _unknown_words(old, new),
        _other_words(old, new),
    ]
    return [one for one in found if one is not None]


def _only_in(
    what: Literal["new_labels", "vanished_labels"], said: str, those: Mapping[str, int], others: Mapping[str, int]
) -> Drift | None:
    names = sorted(set(those) - set(others))
    if not names or not others:
        return None
    listed = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    return Drift(what, float(len(names)), 1.0, f"{said}: {listed}.")


def _shifted(what: Literal["labels", "languages"], old: Mapping[str, int], new: Mapping[str, int]) -> Drift | None:
    if not old or not new:
        return None
    names = sorted(set(old) | set(new))
    first, second = _counts(old, names), _counts(new, names)
    distance = jensen_shannon(first, second)
    if distance < LARGEST_DISTANCE or _chance_of_homogeneity(first, second) >= SIGNIFICANCE:
        return None
    before, after = first / first.sum(), second / second.sum()
    most = sorted(range(len(names)), key=lambda place: (-abs(after[place] - before[place]), names[place]))[:MOST_NAMED]
    changes = ", ".join(f"{names[place]} {before[place]:.1%} -> {after[place]:.1%}" for place in most)
    return Drift(what, distance, LARGEST_DISTANCE, f"The shares of {what} shifted (distance {distance:.2f}): {changes}.")


def _chance_of_homogeneity(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """p value of the chi-squared test, with kinds too rare for it pooled into one."""
    from scipy.stats import chi2_contingency

    table = np.stack([first, second])
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    common = (expected >= FEWEST_EXPECTED).all(axis=0)
    pooled = np.column_stack([table[:, common], table[:, ~common].sum(axis=1)])
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    return float(chi2_contingency(pooled, correction=False).pvalue) if pooled.shape[1] > 1 else 1.0


def _resized(
    what: Literal["characters", "tokens"], old: tuple[int, ...], new: tuple[int, ...], num_old: int, num_new: int
) -> Drift | None:
    if not old or not new:
        return None
    places = np.union1d(old, new)
    distance = float(np.abs(_cumulative(old, places) - _cumulative(new, places)).max())
    # Quantiles know a distribution to one percentile only.
    threshold = max(LARGEST_DISTANCE, SMIRNOV * float(np.sqrt(1 / num_old + 1 / num_new)) + 2 / len(old))
    if distance < threshold:
        return None
    medians = f"median {old[len(old) // 2]} -> {new[len(new) // 2]}, longest {old[-1]} -> {new[-1]}"
    return Drift(what, distance, threshold, f"Lengths in {what} changed: {medians} (distance {distance:.2f}).")


def _cumulative(quantiles: tuple[int, ...], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of texts that are no longer than each place."""
    found: NDArray[np.float64] = np.searchsorted(np.asarray(quantiles), places, side="right") / len(quantiles)
    return found


def _unknown_words(old: DatasetProfile, new: DatasetProfile) -> Drift | None:
    num_kept = sum(new.words.values())
    if not old.words or not num_kept:
        return None
    fewest = _fewest_that_show(old, old.num_rows / new.num_rows)
    unknown = {word: count for word, count in new.words.items() if word not in old.words and count >= fewest}
    share = sum(unknown.values()) / num_kept
    if share < MOST_UNKNOWN_WORDS:
        return None
    names = ", ".join(list(unknown)[:MOST_NAMED])
    said = f"{share:.0%} of the frequent words are not among those of the earlier dataset: {names}."
    return Drift("unknown_words", share, MOST_UNKNOWN_WORDS, said)


def _other_words(old: DatasetProfile, new: DatasetProfile) -> Drift | None:
    if not old.words or not new.words:
        return None
    names = sorted(set(old.words) | set(new.words))
    ratio = new.num_rows / old.num_rows
    first, second = _with_rare(old, new.words, names, 1 / ratio), _with_rare(new, old.words, names, ratio)
    distance = jensen_shannon(first, second)
    if distance < LARGEST_WORD_DISTANCE:
        return None
    change = second / second.sum() - first / first.sum()
    more = ", ".join(names[place] for place in np.argsort(-change, kind="stable")[:MOST_NAMED])
    fewer = ", ".join(names[place] for place in np.argsort(change, kind="stable")[:MOST_NAMED])
    said = f"The words changed (distance {distance:.2f}): more of {more}; fewer of {fewer}."
    return Drift("words", distance, LARGEST_WORD_DISTANCE, said)


def _fewest_that_show(profile: DatasetProfile, ratio: float) -> float:
    """Rows of another dataset that a word must stand in for its absence from this profile to be no accident."""
    from scipy.stats import gamma

    # With this mean a Poisson variable stays at or below the rarest kept count with probability `SIGNIFICANCE`.
    return float(gamma.ppf(1 - SIGNIFICANCE, _most_unseen(profile) + 1)) / ratio


def _with_rare(profile: DatasetProfile, others: Mapping[str, int], names: list[str], ratio: float) -> NDArray[np.float64]:
    """Counts of these words; of those that the profile does not keep, what it would have if nothing had changed, if it can."""
    unseen = _most_unseen(profile)
    return np.array([profile.words.get(name) or min(others[name] * ratio, unseen) for name in names], dtype=float)


def _most_unseen(profile: DatasetProfile) -> int:
    """The most rows that a word can stand in and not be kept."""
    return FEWEST_ROWS_A_WORD - 1 if len(profile.words) < MOST_WORDS else min(profile.words.values())


def _counts(counts: Mapping[str, int], names: list[str]) -> NDArray[np.float64]:
    return np.array([counts.get(name, 0) for name in names], dtype=float)
