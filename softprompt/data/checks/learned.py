"""What simple models and statistics of all rows say: a classical baseline, wrong labels, poison, languages, drift, too few rows."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from softprompt.data.dataset import BaselineRecord, read_manifest
from softprompt.data.examined import Examined, Found, Rows
from softprompt.data.rows import PARTS
from softprompt.data.split import TEST, TRAIN, VALIDATION
from softprompt.data.statistics.baseline import fit_baseline
from softprompt.data.statistics.poison import find_triggers
from softprompt.data.statistics.power import smallest_difference
from softprompt.data.statistics.profile import DatasetProfile, drift, profile_of
from softprompt.data.statistics.wrong_labels import likely_wrong_labels
from softprompt.data.text.languages import languages
from softprompt.fetch import fetch_base

UNKNOWN = "unknown"
"""A text too short to tell its language."""
FEW_LANGUAGE_SHARE = 0.05
"""A second language in fewer rows than this is more likely an accident than a wish."""
"""Differences between candidates smaller than this are not worth a name; sets that cannot tell larger ones are too small."""


@dataclass
class Learned:
    """What the rows taught.

    Attributes:
        tokens: `[R]` tokens of input and answer; None where the dataset was refused before.
        context_tokens: The base's context.
        room: Tokens of it that the prompt leaves.
        baseline: The classical baseline; None for a generation.
        baseline_answers: `[R]` its answers; empty for training rows, and as a whole where there is none.
        languages: Language -> rows of the sample.
        profile: What later datasets are compared with.
        samples: Check -> rows that it looked at, where that is not all.
    """

    tokens: NDArray[np.int32] | None = None
    context_tokens: int = 0
    room: int = 0
    baseline: BaselineRecord | None = None
    baseline_answers: list[str] = field(default_factory=list)
    languages: dict[str, int] = field(default_factory=dict)
    profile: DatasetProfile | None = None
    samples: dict[str, int] = field(default_factory=dict)
