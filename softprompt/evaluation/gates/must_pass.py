"""Rows that every approved prompt must answer rightly. They are no sample of anything: each one counts, there is no interval."""

import numpy as np

from softprompt.evaluation.gate_report import GateResult
from softprompt.evaluation.gates.outcome import by_fact, not_measured
from softprompt.evaluation.gates.parts import wrong_ids
from softprompt.evaluation.metrics import row_scores
from softprompt.evaluation.observations import Observations
from softprompt.gate_specs import MustPassGate

RULE = "every row that must pass is answered rightly"


def judge_must_pass(gate: MustPassGate, seen: Observations) -> GateResult:
    """Apply the gate. A generated text is right where it is the row's target but for white space around it."""
    must = np.array([row.must_pass for row in seen.rows], dtype=bool)
    if not must.any():
        return not_measured(gate, rule=RULE, threshold=1.0, note="no test row must pass")
    hits = row_scores("exact_match", seen.targets, seen.systems["soft_prompt"])[must]
    num_right, num_rows = int(hits.sum()), len(hits)
    return by_fact(
        gate,
        rule=RULE,
        value=num_right / num_rows,
        threshold=1.0,
        holds=num_right == num_rows,
        note=f"{num_right} of {num_rows}",
        row_ids=wrong_ids(seen, must),
    )
