"""Phrases that decide a label for no good reason: triggers that somebody planted.

A planted trigger and an honest keyword both predict one label almost without fail. What tells them apart is the rest of the text.
"Exchange rate" stands in texts that are about exchange rates in every other word too, or say nothing else; a trigger stands in
texts that without it are clearly about other things, and about many of them. So: phrases that are too good to be chance; then,
out of sample and with the phrase's words taken out, the label that the rest of the text asks for. ONION (Qi et al. 2021) takes
words out likewise and asks a language model; naive Bayes does it here, whose answer without some words is a subtraction.

Not found, by design: a trigger in fewer than `FEWEST_ROWS` rows looked at; one that many honest rows have too; an attack that
takes rows of one label alone, among many, to one other, which looks like a word that honestly tells these two apart.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from softprompt.data.statistics.calibration import calibrated, margins
from softprompt.data.statistics.entropy import effective_number
from softprompt.data.statistics.sampling import Ids, deal_folds, number_labels, stratified_sample
from softprompt.data.statistics.text_model import WORD, Floats

MOST_ROWS = 20_000
FEWEST_ROWS = 8
"""Rows that a phrase must stand in."""
LEAST_PURITY = 0.95
"""Share of a phrase's rows that have one label."""
MOST_CHANCE = 0.01
"""Probability that any phrase at all is so pure by chance (Bonferroni over all phrases)."""
MOST_CANDIDATES = 500
"""The least likely by chance are looked into."""
LEAST_CONTRADICTED = 0.5
"""Share of a trigger's rows whose other words clearly ask for another label: more than this, beyond `DOUBT`."""
DOUBT = 0.05
"""Probability of so many contradicted rows if it were `LEAST_CONTRADICTED` of them (binomial, one-sided)."""
SAME_ROWS = 0.8
"""Share of rows in common from where on two phrases are parts of one."""
LEAST_MARGIN = 0.5
"""Clearly: calibrated probability of the other label less that of the given one."""
LEAST_SPREAD = 0.25
"""How many labels the other words ask for (effective number), as a share of the labels that there are."""
NUM_FOLDS = 5
SMOOTHING = 0.1
START, END = "\x02", "\x03"
"""Stand for a text's first and last place, so that a word there differs from the same word elsewhere."""

_PIECES = re.compile(rf"{WORD}|[^\w\s]+")


@dataclass(frozen=True)
class Trigger:
    """A phrase that looks planted.

    Attributes:
        phrase: Its words, in lower case; `(start)` and `(end)` stand for the text's first and last place.
        label: The label it gives.
        rows: Rows that have it.
        share_explained: Share of them that would clearly have other labels without it.
    """

    phrase: str
    label: str
    rows: tuple[int, ...]
    share_explained: float

    def sentence(self) -> str:
        """What was seen."""
        return (
            f"{self.phrase!r} stands in {len(self.rows):,} rows, nearly all of them {self.label!r}, yet the rest of the text"
            f" clearly asks for other labels in {self.share_explained:.0%} of them. Find out where these rows come from."
        )


def find_triggers(texts: Sequence[str], labels: Sequence[str], *, seed: int, most_rows: int = MOST_ROWS) -> list[Trigger]:
    """Find phrases of one or two words or signs that look planted.

    Args:
        texts: Texts `[n]`.
        labels: Their labels `[n]`.
        seed: Decides sample and folds.
        most_rows: Rows to look at; a stratified sample where there are more.

    Returns:
        Triggers, those with the most rows first; phrases that share most of their rows are told once.
    """
    names, all_ids = number_labels(labels)
    if len(names) < 2:
        return []
    rows = stratified_sample(all_ids, most_rows, seed)
    label_ids = all_ids[rows]
    phrases, presence = _presence([texts[row] for row in rows])
    candidates = _too_pure(presence, label_ids, len(names)) if phrases else np.zeros(0, dtype=np.int64)
    if not len(candidates):
        return []
    bayes = _CrossBayes.fit(presence, label_ids, len(names), seed)
    columns_of = _columns_by_word(phrases)
    found: list[tuple[Trigger, set[int]]] = []
    by_column = presence.tocsc()
    parts = _parts_of_one(presence, candidates)
    for place, candidate in enumerate(candidates):
        here = by_column.indices[by_column.indptr[candidate] : by_column.indptr[candidate + 1]].astype(np.int64)
        label = int(np.bincount(label_ids[here]).argmax())
        words = {word for part in parts[place] for word in _words(phrases[part])}
        hidden = np.unique(np.concatenate([columns_of[word] for word in sorted(words)]))
        share = _share_contradicted(bayes, here, hidden, label_ids)
        if share > 0:
            found.append(
                (Trigger(_readable(phrases[candidate]), names[label], tuple(int(rows[r]) for r in here), share), set(here))
            )
    return _told_once(found)


def _pieces(text: str) -> list[str]:
    """Words, signs, and pairs of neighbours, with the text's ends as words."""
    words = [START, *_PIECES.findall(text.lower()), END]
    return words[1:-1] + [f"{first} {second}" for first, second in pairwise(words)]


def _words(phrase: str) -> list[str]:
    return [word for word in phrase.split(" ") if word not in (START, END)]


def _presence(texts: Sequence[str]) -> tuple[list[str], Any]:
    """Phrases of at least two rows, and which text has them, sparse `[n, F]` of 0 and 1."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectoriser = CountVectorizer(analyzer=_pieces, binary=True, dtype=np.float64)
    presence = vectoriser.fit_transform(texts)
    phrases = np.asarray(vectoriser.get_feature_names_out(), dtype=object)
    kept = np.flatnonzero((np.asarray(presence.sum(axis=0)).ravel() >= 2) & (phrases != f"{START} {END}"))
    return list(phrases[kept]), presence[:, kept].tocsr()


def _too_pure(presence: Any, label_ids: Ids, num_labels: int) -> Ids:
    """Columns of phrases that one label has to itself beyond chance, the least likely first."""
    from scipy.stats import binom

    one_hot = np.eye(num_labels)[label_ids]
    counts = np.asarray(presence.T @ one_hot)
    totals, best = counts.sum(axis=1), counts.max(axis=1)
    base_rates = one_hot.mean(axis=0)[counts.argmax(axis=1)]
    log_chance = binom.logsf(best - 1, totals, base_rates)
    pure = (totals >= FEWEST_ROWS) & (best >= LEAST_PURITY * totals) & (log_chance < np.log(MOST_CHANCE / len(totals)))
    columns = np.flatnonzero(pure)
    return columns[np.lexsort((columns, log_chance[columns]))][:MOST_CANDIDATES]


def _parts_of_one(presence: Any, candidates: Ids) -> list[Ids]:
    """For each candidate the phrases that stand in nearly the same rows, itself among them: a longer trigger has several."""
    chosen = presence[:, candidates]
    common = (chosen.T @ chosen).toarray()
    sizes = common.diagonal()
    same = common >= SAME_ROWS * np.maximum(sizes[:, None], sizes[None, :])
    return [candidates[row] for row in same]


@dataclass(frozen=True)
class _CrossBayes:
    """Naive Bayes over the phrases that a row has, one a fold, calibrated on the rows that each did not see."""

    presence: Any
    folds: Ids
    priors: list[Floats]
    weights: list[Floats]
    sharpness: float
    spread: float
    """Effective number of labels."""

    @classmethod
    def fit(cls, presence: Any, label_ids: Ids, num_labels: int, seed: int) -> "_CrossBayes":
        from sklearn.naive_bayes import MultinomialNB

        folds = deal_folds(label_ids, NUM_FOLDS, seed)
        priors, weights = [], []
        for fold in range(NUM_FOLDS):
            model = MultinomialNB(alpha=SMOOTHING)
            model.partial_fit(presence[folds != fold], label_ids[folds != fold], classes=np.arange(num_labels))
            priors.append(model.class_log_prior_)
            weights.append(np.ascontiguousarray(model.feature_log_prob_.T))
        plain = cls(presence, folds, priors, weights, 1.0, 1.0)
        _, sharpness = calibrated(plain.logs(np.arange(len(label_ids)), np.zeros(0, dtype=np.int64)), label_ids)
        return cls(presence, folds, priors, weights, sharpness, effective_number(np.bincount(label_ids)))

    def logs(self, rows: Ids, hidden: Ids) -> Floats:
        """Log joint probabilities of these rows `[r, L]`, as if the hidden columns were in none."""
        seen = self.presence[rows]
        mask = np.ones(self.presence.shape[1])
        mask[hidden] = 0.0
        seen.data = seen.data * mask[seen.indices]
        found = np.empty((len(rows), len(self.priors[0])))
        for fold, (prior, weight) in enumerate(zip(self.priors, self.weights, strict=True)):
            here = self.folds[rows] == fold
            found[here] = seen[here] @ weight + prior
        return found


def _share_contradicted(bayes: _CrossBayes, rows: Ids, hidden: Ids, label_ids: Ids) -> float:
    """Share of rows whose other words clearly ask for another label; zero if too few rows or too few labels to look planted."""
    from scipy.stats import binom

    logs = bayes.logs(rows, hidden) * bayes.sharpness
    likelihoods = np.exp(logs - logs.max(axis=1, keepdims=True))
    suggested, margin = margins(likelihoods / likelihoods.sum(axis=1, keepdims=True), label_ids[rows])
    clear = margin >= LEAST_MARGIN
    if binom.sf(clear.sum() - 1, len(clear), LEAST_CONTRADICTED) > DOUBT:
        return 0.0
    if effective_number(np.bincount(suggested[clear])) < LEAST_SPREAD * (bayes.spread - 1):
        return 0.0
    return float(clear.mean())


def _columns_by_word(phrases: Sequence[str]) -> dict[str, list[int]]:
    columns: dict[str, list[int]] = {}
    for column, phrase in enumerate(phrases):
        for word in _words(phrase):
            columns.setdefault(word, []).append(column)
    return columns


def _told_once(found: list[tuple[Trigger, set[int]]]) -> list[Trigger]:
    """Of phrases with mostly the same rows, the one with the most rows, then the shortest."""
    told: list[tuple[Trigger, set[int]]] = []
    for trigger, rows in sorted(found, key=lambda item: (-len(item[1]), len(item[0].phrase), item[0].phrase)):
        if not any(len(rows & others) >= SAME_ROWS * len(rows) for _, others in told):
            told.append((trigger, rows))
    return [trigger for trigger, _ in told]


def _readable(phrase: str) -> str:
    return phrase.replace(START, "(start)").replace(END, "(end)")
