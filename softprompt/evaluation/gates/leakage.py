"""Test rows whose input the training saw: a fact. What is measured on such rows says nothing about new ones."""

import numpy as np

from softprompt.evaluation.gate_report import GateResult
from softprompt.evaluation.gates.outcome import at_most, by_fact, not_measured
from softprompt.evaluation.gates.parts import ids_of
from softprompt.evaluation.observations import Observations
from softprompt.recipe.gates import LeakageGate


def judge_leakage(gate: LeakageGate, seen: Observations) -> GateResult:
    """Apply the gate."""
    rule = f"test rows that training saw at most {gate.rows_at_most:,}"
    if not seen.rows:
        return not_measured(gate, rule=rule, threshold=gate.rows_at_most, note="there are no test rows")
    leaked = np.isin(np.arange(len(seen.rows)), seen.leaked)
    count = int(leaked.sum())
    note = f"of {len(seen.rows):,} test rows"
    return by_fact(
        gate, rule=rule, value=count, threshold=gate.rows_at_most, holds=at_most, note=note, row_ids=ids_of(seen, leaked)
    )
