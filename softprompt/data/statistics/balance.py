"""Labels themselves: names that look alike, labels that are rare, missing, or crowd out the others."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from softprompt.data.statistics.entropy import effective_number

LARGEST_RATIO = 20.0
"""Rows of the most frequent label over those of the rarest, from where on it is told. By judgement: Banking77, which nobody calls
imbalanced, has 5:1; He and Garcia 2009, "Learning from Imbalanced Data", speak of between-class imbalances from 100:1 on."""
LEAST_EVENNESS = 0.5
"""Effective number of labels over their number; a half means that half of the labels hardly count."""
FEWEST_ROWS = 5
MOST_NAMED = 8


@dataclass(frozen=True)
class LabelProblem:
    """Something about the labels that a person should know.

    Attributes:
        kind: Which problem.
        labels: The labels concerned.
        message: What is wrong and what to do.
    """

    kind: Literal["alike", "untidy", "imbalance", "rare", "missing"]
    labels: tuple[str, ...]
    message: str


def names_alike(labels: Iterable[str]) -> list[LabelProblem]:
    """Different labels whose names differ by case, spaces, underscores, hyphens or Unicode form only: likely one label."""
    kin: dict[str, list[str]] = {}
    for name in sorted(set(labels)):
        kin.setdefault(_bare(name), []).append(name)
    return [
        LabelProblem(
            "alike",
            tuple(names),
            f"These labels are read as different ones: {_listed(names)}. If they mean the same, give them one name.",
        )
        for names in kin.values()
        if len(names) > 1
    ]


def untidy_names(labels: Iterable[str]) -> list[LabelProblem]:
    """Labels with spaces at an end, or with characters that nobody sees: the prompt would have to answer with these too."""
    names = sorted(name for name in set(labels) if name != name.strip() or any(_is_unseen(sign) for sign in name))
    if not names:
        return []
    message = f"Labels with spaces at their ends or invisible characters: {_listed(names)}. Rename them."
    return [LabelProblem("untidy", tuple(names), message)]


def imbalance(counts: Mapping[str, int], largest_ratio: float = LARGEST_RATIO) -> list[LabelProblem]:
    """Whether a few labels crowd out the others.

    Args:
        counts: Rows of each label; labels without rows do not count here.
        largest_ratio: Rows of the most frequent to those of the rarest that are still in balance.
    """
    present = {name: count for name, count in counts.items() if count > 0}
    if len(present) < 2:
        return []
    most, least = max(present, key=lambda name: (present[name], name)), min(present, key=lambda name: (present[name], name))
    ratio, effective = present[most] / present[least], effective_number(list(present.values()))
    if ratio < largest_ratio and effective >= LEAST_EVENNESS * len(present):
        return []
    message = (
        f"{most!r} has {present[most]:,} rows and {least!r} {present[least]:,} ({ratio:.0f}:1); {len(present)} labels are as"
        f" diverse as {effective:.1f} equally frequent ones. Judge by macro F1, and collect rows for the rare ones."
    )
    return [LabelProblem("imbalance", (most, least), message)]


def rare_labels(counts: Mapping[str, int], fewest: int = FEWEST_ROWS) -> list[LabelProblem]:
    """Labels with some rows, but fewer than `fewest`."""
    names = sorted(name for name, count in counts.items() if 0 < count < fewest)
    if not names:
        return []
    listed = _listed([f"{name} ({counts[name]})" for name in names], quoted=False)
    message = f"Labels with fewer than {fewest} rows: {listed}. They cannot be learned or judged."
    return [LabelProblem("rare", tuple(names), message)]


def missing_labels(counts: Mapping[str, Mapping[str, int]]) -> list[LabelProblem]:
    """Labels that some part lacks.

    Args:
        counts: Part -> label -> rows; a part without rows does not count.
    """
    names = sorted({name for by_label in counts.values() for name, count in by_label.items() if count})
    found = []
    for part, by_label in counts.items():
        lacking = [name for name in names if not by_label.get(name)]
        if lacking and any(by_label.values()):
            message = f"The {part} part has no row of {_listed(lacking)}: nothing is learned or said about them there."
            found.append(LabelProblem("missing", tuple(lacking), message))
    return found


def _bare(name: str) -> str:
    """A name without what is easily mistyped: case, Unicode form, everything between words."""
    normal = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(sign for sign in normal if not (sign.isspace() or sign in "_-" or _is_unseen(sign))) or name


def _is_unseen(sign: str) -> bool:
    return unicodedata.category(sign) in ("Cc", "Cf", "Co", "Cn")


def _listed(names: list[str], *, quoted: bool = True) -> str:
    shown = [repr(name) if quoted else name for name in names[:MOST_NAMED]]
    return ", ".join(shown) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
