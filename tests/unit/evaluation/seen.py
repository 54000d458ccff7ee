"""What an evaluation saw, made up: systems with known shares of right answers, rows with known groups."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from softprompt.data.rows import Row
from softprompt.evaluation.observations import Answers, Disturbed, Observations, PromptFacts
from softprompt.recipe.evaluation import EvaluationSpec
from softprompt.recipe.gates import Perturbation

Said = tuple[dict[str, Any], str]
"""What a row has besides its text, and the soft prompt's answer to it."""


def seen_shares(shares: Mapping[str, float], num_rows: int = 200, num_samples: int = 1000) -> Observations:
    """Systems that are right on the first rows, each on its share of them; the label is `x`, a wrong answer is `y`."""
    rows = [Row(f"row-{number}", number + 1, {"text": f"text {number}"}, "x", part="test") for number in range(num_rows)]
    systems = {
        system: Answers(tuple("x" if number < share * num_rows else "y" for number in range(num_rows)))
        for system, share in shares.items()
    }
    return Observations("classification", rows, ("x", "y"), systems, EvaluationSpec(bootstrap_samples=num_samples))


def crowd(
    num_rows: int, num_right: int, target: str = "x", wrong: str = "y", must_pass: bool = False, **subgroups: str
) -> list[Said]:
    """Rows of one kind, the first of them answered rightly."""
    what = {"target": target, "subgroups": subgroups, "must_pass": must_pass}
    return [(what, target if number < num_right else wrong) for number in range(num_rows)]


def seen_crowds(*crowds: list[Said], num_samples: int = 400, **more: Any) -> Observations:
    """Crowds of rows, one behind the other; `more` goes to the observations."""
    said = [each for crowd in crowds for each in crowd]
    rows = [
        Row(f"row-{number}", number + 1, {"text": f"text {number}"}, part="test", **what) for number, (what, _) in enumerate(said)
    ]
    systems = {"soft_prompt": Answers(tuple(output for _, output in said))}
    given = {"task": "classification", "labels": ("x", "y"), "spec": EvaluationSpec(bootstrap_samples=num_samples)} | more
    return Observations(rows=rows, systems=systems, **given)


def seen_disturbed(
    kind: Perturbation, clean: Sequence[bool], after: Sequence[bool], rows: Sequence[int] | None = None, **more: Any
) -> Observations:
    """Which rows are answered rightly, and which of `rows` (default: all) are when disturbed; `more` goes to those answers."""
    seen = seen_crowds([({"target": "x"}, "x" if right else "y") for right in clean])
    index = np.arange(len(clean)) if rows is None else np.array(rows, dtype=np.intp)
    answers = Answers(**({"outputs": tuple("x" if right else "y" for right in after)} | more))
    return Observations(seen.task, seen.rows, seen.labels, seen.systems, seen.spec, disturbed={kind: Disturbed(index, answers)})


def facts(**given: Any) -> PromptFacts:
    """A healthy prompt's facts, but for what is given."""
    numbers = {name: np.array(value, dtype=float) if isinstance(value, list) else value for name, value in given.items()}
    healthy = {"num_tokens": 16, "num_bytes": 5000, "finite": True, "norms": np.array([0.5, 2.0, 1.0]), "moved": 0.4}
    return PromptFacts(**(healthy | numbers))
