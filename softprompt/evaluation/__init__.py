"""Evaluation: what a prompt does on rows that training never saw, and whether that passes its gates.

metrics.py    answers -> numbers, as functions of resampling weights
intervals.py  numbers -> confidence intervals
gates.py      intervals -> a verdict
evaluate.py   the step `evaluate_prompt`
report.py     one page that a person wants to read
"""
