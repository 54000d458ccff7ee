"""Evaluation: what a prompt does on rows that training never saw, and whether that passes its gates.

systems/          who answers: the soft prompt, and what it is compared with
perturbations/    what is done to inputs, to see what remains
observations.py   everything that was seen
metrics/          answers -> numbers, as functions of resampling weights
measure.py        numbers with their intervals: proportions.py, bootstrap.py, intervals.py
comparisons.py    differences with p-values: significance.py
gates/            intervals -> a status each, and one verdict
judgement.py      all of it as one report: gate_report.py
report/           the report as a page
side_by_side.py   two reports
evaluate.py       the step `evaluate_prompt`
"""
