"""What an evaluation saw, made up: systems with known shares of right answers."""

from collections.abc import Mapping

from softprompt.data.rows import Row
from softprompt.evaluation.observations import Answers, Observations
from softprompt.recipe import EvaluationSpec


def seen_shares(shares: Mapping[str, float], num_rows: int = 200, num_samples: int = 1000) -> Observations:
    """Systems that are right on the first rows, each on its share of them; the label is `x`, a wrong answer is `y`."""
    rows = [Row(f"row-{number}", number + 1, {"text": f"text {number}"}, "x", part="test") for number in range(num_rows)]
    systems = {
        system: Answers(tuple("x" if number < share * num_rows else "y" for number in range(num_rows)))
        for system, share in shares.items()
    }
    return Observations("classification", rows, ("x", "y"), systems, EvaluationSpec(bootstrap_samples=num_samples))
