"""Rows that every approved prompt must answer rightly. They are no sample of anything: each one counts, there is no interval."""

import numpy as np

from softprompt.evaluation.gate_report import GateResult
from softprompt.evaluation.gates.outcome import at_least, by_fact, not_measured
from softprompt.evaluation.gates.parts import wrong_ids
from softprompt.evaluation.metrics.classification import hits
from softprompt.evaluation.observations import Observations
from softprompt.recipe.gates import MustPassGate

RULE = "every row that must pass is answered rightly"


def judge_must_pass(gate: MustPassGate, seen: Observations) -> GateResult:
    """Apply the gate. A generated text is right where it is the row's target but for white space around it."""
    must = np.array([row.must_pass for row in seen.rows])
    if not must.any():
        return not_measured(gate, rule=RULE, threshold=1.0, note="no test row must pass")
    right = hits(seen.targets, seen.systems["soft_prompt"].outputs)[must]
    num_right, num_rows = int(right.sum()), len(right)
    return by_fact(
        gate,
        rule=RULE,
        value=num_right / num_rows,
        threshold=1.0,
        holds=at_least,
        note=f"{num_right} of {num_rows}",
        row_ids=wrong_ids(seen, must),
    )
