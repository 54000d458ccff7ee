"""What simple models and statistics of all rows say: baseline, wrong labels, poison, languages, drift, too few rows."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from softprompt.data.checks.lengths import Lengths
from softprompt.data.checks.repeats import first_of
from softprompt.data.dataset import BaselineRecord
from softprompt.data.examined import Examined, Found, Rows, rows_that, shown
from softprompt.data.rows import PARTS, Severity
from softprompt.data.split import TEST, TRAIN, VALIDATION
from softprompt.data.statistics.baseline import fit_baseline
from softprompt.data.statistics.drift import drift
from softprompt.data.statistics.poison import Trigger, find_triggers
from softprompt.data.statistics.power import USUAL_ACCURACY, power_of
from softprompt.data.statistics.profile import DatasetProfile, profile_of
from softprompt.data.statistics.wrong_labels import likely_wrong_labels
from softprompt.data.text.languages import languages
from softprompt.data.text.personal_data import mask

UNKNOWN = "unknown"
"""A text too short to tell its language."""
FEW_LANGUAGE_SHARE = 0.05
"""A second language in fewer rows than this is more likely an accident than a wish."""
WARN: Severity = "warn"
COARSE_DIFFERENCE = 0.1
"""Rows that cannot tell candidates apart that differ by ten points are too few for any choice between them."""


@dataclass
class Learned:
    """What the rows taught.

    Attributes:
        lengths: Of a sample of rows, in tokens; None where the dataset was refused before.
        baseline: The classical baseline; None for a generation.
        baseline_answers: `[R]` its answers; empty for training rows, and as a whole where there is none.
        languages: Language -> rows of the sample.
        profile: What later datasets are compared with.
        samples: Check -> rows that it looked at, where that is not all.
    """

    lengths: Lengths | None = None
    baseline: BaselineRecord | None = None
    baseline_answers: list[str] = field(default_factory=list)
    languages: dict[str, int] = field(default_factory=dict)
    profile: DatasetProfile | None = None
    samples: dict[str, int] = field(default_factory=dict)


def learn(data: Examined, learned: Learned, earlier: DatasetProfile | None) -> Iterator[Found]:
    """Fit, look, and tell; what was learned is put into `learned` as it goes.

    Args:
        data: The dataset.
        learned: For what it teaches.
        earlier: Of the dataset that drift is measured against.
    """
    # Folds are dealt in the order of rows; in one of their own, what is found does not depend on that of the files.
    rows = data.by_digest(data.sample(data.rows_of(), data.recipe.dataset.limits.sample_rows))
    texts = data.texts(rows)
    if data.recipe.task.type == "classification":
        yield from _wrong_labels(data, learned, rows, texts)
        yield from _triggers(data, learned, rows, texts)
        _fit_baseline(data, learned)
    yield from _languages(data, learned, rows, texts)
    yield from _few_rows(data, learned)
    learned.profile = _profile(data, learned, rows, texts)
    if earlier is not None:
        yield from (Found("drift", change.sentence) for change in drift(earlier, learned.profile))


def _wrong_labels(data: Examined, learned: Learned, rows: Rows, texts: list[str]) -> Iterator[Found]:
    seed = data.recipe.dataset.split.seed
    labels = [data.label_names[code] for code in data.label[rows]]
    result = likely_wrong_labels(texts, labels, seed=seed, most_rows=len(texts), groups=first_of(data.near[rows, None]).tolist())
    _note_sample(data, learned, "wrong_labels", result.num_judged)
    if not result.found:
        return
    issues = {int(rows[issue.row]): issue for issue in result.found}
    suspects = np.array(list(issues), np.int64)
    tested = data.part[suspects] == TEST
    if data.action("wrong_labels") != "drop":
        tested[:] = False
    # A test without the rows that a simple model gets wrong would flatter every prompt: these are only told.
    for found, severity in ((suspects[~tested], None), (suspects[tested], WARN)):
        if len(found):
            message = f"{rows_that(len(found), 'has a label', 'have labels')} that a model of the other rows finds very unlikely."
            yield Found(
                "wrong_labels",
                f"{message} Read {'it' if len(found) == 1 else 'them, the surest first'}.",
                found,
                lambda place, _: f"{issues[place].given!r}, rather {issues[place].suggested!r} ({issues[place].confidence:.2f})",
                severity,
            )


def _triggers(data: Examined, learned: Learned, rows: Rows, texts: list[str]) -> Iterator[Found]:
    labels = [data.label_names[code] for code in data.label[rows]]
    _note_sample(data, learned, "poison", len(rows))
    for trigger in find_triggers(texts, labels, seed=data.recipe.dataset.split.seed, most_rows=len(texts)):
        message, found = _sentence(trigger, texts[trigger.rows[0]]), np.sort(rows[list(trigger.rows)])
        yield Found("poison", message, found, lambda _, row: shown(row.target))


def _sentence(trigger: Trigger, text: str) -> str:
    """What was seen; a phrase that is a piece of personal data, such as the number below somebody's messages, is not shown."""
    masked = mask(text).lower()
    is_shown = all(word in masked for word in trigger.phrase.split(" ") if word not in ("(start)", "(end)"))
    return (trigger if is_shown else replace(trigger, phrase="…")).sentence()


def _fit_baseline(data: Examined, learned: Learned) -> None:
    """What TF-IDF and logistic regression make of the rows that training does not see."""
    train = data.rows_of(TRAIN)
    limits = data.recipe.dataset.limits
    sample = data.sample(train, limits.sample_rows)
    labels = [data.label_names[code] for code in data.label[sample]]
    model = fit_baseline(data.texts(sample), labels, seed=data.recipe.dataset.split.seed, most_rows=len(sample))
    learned.baseline_answers = [""] * len(data.table)
    accuracy: dict[int, float] = {}
    for part in (VALIDATION, TEST):
        rows = data.rows_of(part)
        right = 0
        for some in np.array_split(rows, len(rows) // 8192 + 1):
            answers, _ = model.predict(data.texts(some))
            for row, answer in zip(some.tolist(), answers, strict=True):
                learned.baseline_answers[row] = answer
                right += answer == data.label_names[data.label[row]]
        accuracy[part] = right / len(rows)
    learned.baseline = BaselineRecord(
        train_rows=model.num_rows, validation_accuracy=accuracy[VALIDATION], test_accuracy=accuracy[TEST]
    )


def _languages(data: Examined, learned: Learned, rows: Rows, texts: list[str]) -> Iterator[Found]:
    found = np.array([name or UNKNOWN for name in languages(texts)], object)
    learned.languages = dict(Counter(found.tolist()).most_common())
    _note_sample(data, learned, "languages", len(rows))
    known = {name: count for name, count in learned.languages.items() if name != UNKNOWN}
    total = sum(known.values())
    few = [name for name, count in known.items() if count < FEW_LANGUAGE_SHARE * total]
    if few and max(known.values()) > total / 2:
        strange = np.sort(rows[np.isin(found, few)])
        names = dict(zip(rows.tolist(), found.tolist(), strict=True))
        message = (
            f"Most rows are in {next(iter(known))}, {len(strange):,} look like other languages ({', '.join(sorted(few)[:8])}). "
            "Add rows of these, or leave them out."
        )
        yield Found("languages", message, strange, lambda place, _: names[place])


def _few_rows(data: Examined, learned: Learned) -> Iterator[Found]:
    accuracy = learned.baseline.validation_accuracy if learned.baseline else USUAL_ACCURACY
    for part in (VALIDATION, TEST):
        power = power_of(len(data.rows_of(part)), max(accuracy, 0.5))
        if power.smallest is None or power.smallest > COARSE_DIFFERENCE:
            yield Found("few_rows", power.sentence(PARTS[part]))


def _profile(data: Examined, learned: Learned, rows: Rows, texts: list[str]) -> DatasetProfile:
    is_classification = data.recipe.task.type == "classification"
    labels = [data.label_names[code] for code in data.label[data.rows_of()]] if is_classification else []
    tokens = learned.lengths.tokens.tolist() if learned.lengths else None
    return profile_of(texts, labels, num_tokens=tokens, languages=learned.languages)


def _note_sample(data: Examined, learned: Learned, check: str, num_rows: int) -> None:
    if num_rows < data.num_rows:
        learned.samples[check] = num_rows
