"""How many rows it takes to tell two candidates apart.

Both answer the same rows, so only the rows that one gets right and the other wrong say anything. McNemar's test at level alpha
with power 1 - beta needs (Connor 1987, "Sample size for testing differences in proportions for the paired-sample design",
Biometrics 43:207)

    n = (z[1 - alpha/2] sqrt(s) + z[1 - beta] sqrt(s - d^2))^2 / d^2

for a difference d and a share s of such rows. The mid-p version of the test has this power closely (Fagerland, Lydersen and Laake
2013, "The McNemar test for binary matched-pairs data: mid-p and asymptotic are better than exact conditional").
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95
POWER = 0.80
SHARED_ERRORS = 0.5
"""Assumed correlation of two candidates' errors: two prompts of one base mostly fail on the same rows."""
USUAL_ACCURACY = 0.9
"""Where nothing is known."""
WORTHWHILE = (0.02, 0.05)
"""Differences that people ask about."""


@dataclass(frozen=True)
class Power:
    """What a number of rows can tell.

    Attributes:
        num_rows: Rows there are.
        accuracy: Expected accuracy.
        smallest: The smallest difference in accuracy that they tell; None if not even the largest possible.
        rows_needed: For each worthwhile difference, the rows that tell it.
    """

    num_rows: int
    accuracy: float
    smallest: float | None
    rows_needed: dict[float, int]

    def sentence(self, part: str) -> str:
        """What this means, for a report.

        Args:
            part: Which rows: `validation` or `test`.
        """
        tells = f"differences of {self.smallest:.1%} and more" if self.smallest is not None else "no difference at all"
        needed = ", ".join(f"{rows:,} rows for {difference:.0%}" for difference, rows in self.rows_needed.items())
        return (
            f"{self.num_rows:,} {part} rows tell {tells} between two candidates near {self.accuracy:.0%} accuracy"
            f" ({CONFIDENCE:.0%} confidence, {POWER:.0%} power); it takes {needed}."
        )


def power_of(num_rows: int, accuracy: float = USUAL_ACCURACY) -> Power:
    """What so many rows can tell.

    Args:
        num_rows: Rows there are.
        accuracy: Expected accuracy of the candidates, in [0, 1].
    """
    needed = {difference: rows_needed(difference, accuracy) for difference in WORTHWHILE}
    return Power(num_rows, accuracy, smallest_difference(num_rows, accuracy), needed)


def discordance(accuracy: float, difference: float) -> float:
    """Share of rows that one candidate gets right and the other wrong.

    With errors of correlation r it is 2 p (1 - p) (1 - r), and never less than the difference.

    Args:
        accuracy: `p`, in [0, 1].
        difference: In [0, 1].
    """
    return max(2 * accuracy * (1 - accuracy) * (1 - SHARED_ERRORS), difference)


def rows_needed(difference: float, accuracy: float = USUAL_ACCURACY, *, discordant: float | None = None) -> int:
    """Rows that tell a difference in accuracy, at 95 % confidence with 80 % power.

    Args:
        difference: In (0, 1].
        accuracy: Expected accuracy, in [0, 1].
        discordant: Share of rows that one candidate gets right and the other wrong, if known; else assumed.

    Raises:
        ValueError: A difference or accuracy that cannot be, or fewer discordant rows than the difference needs.
    """
    if not 0 < difference <= 1 or not 0 <= accuracy <= 1:
        raise ValueError(f"difference must be in (0, 1] and accuracy in [0, 1]: got {difference} and {accuracy}")
    share = discordance(accuracy, difference) if discordant is None else discordant
    if not difference <= share <= 1:
        raise ValueError(f"the share of discordant rows must be between the difference, {difference}, and 1: got {share}")
    normal = NormalDist()
    doubt, hope = normal.inv_cdf(1 - (1 - CONFIDENCE) / 2), normal.inv_cdf(POWER)
    spread = doubt * math.sqrt(share) + hope * math.sqrt(share - difference**2)
    return math.ceil((spread / difference) ** 2)


def smallest_difference(num_rows: int, accuracy: float = USUAL_ACCURACY) -> float | None:
    """The smallest difference in accuracy, to four decimals, that so many rows tell; None if not even a difference of 1."""
    if rows_needed(1.0, accuracy) > num_rows:
        return None
    # rows_needed never rises with the difference, so that halving finds the edge among 0.0001, 0.0002, ..., 1.
    below, enough = 0, 10_000
    while enough - below > 1:
        middle = (below + enough) // 2
        below, enough = (below, middle) if rows_needed(middle / 10_000, accuracy) <= num_rows else (middle, enough)
    return enough / 10_000
