"""The issue's bound, on one seed: the gap falls by half or more, and the accuracy by two points at most."""

from collections import Counter

import pytest

from tests.bench.fairness import load_job, run_cell


@pytest.mark.slow
def test_the_gap_of_planted_bias_falls_by_half_and_the_accuracy_stays(tmp_path):
    job, test = load_job(tmp_path)
    assert min(Counter(row.subgroups["region"] for row in test).values()) >= 2000
    plain, fair = (run_cell(job, test, system, seed=0) for system in ("without", "gap"))
    assert plain["demographic parity gap"] >= 0.2
    assert fair["demographic parity gap"] <= plain["demographic parity gap"] / 2
    assert fair["accuracy, true labels"] >= plain["accuracy, true labels"] - 0.02
    # By biased labels the habit itself was worth 2.3 points: 55 % less 45 % of a quarter of the rows, but for true `ledger`.
    assert fair["accuracy, labels as they are"] >= plain["accuracy, labels as they are"] - 0.03
