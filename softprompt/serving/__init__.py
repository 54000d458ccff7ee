"""Serving: one frozen model, many prompts by name, swapped without a restart. First form; no ray, no mlflow, no kfp.

follower.py   follow one channel; which prompt a request means
bank.py       verified prompts, warm: keys and values computed once per digest
scheduler.py  requests that wait together are answered together
app.py        the HTTP interface
"""
