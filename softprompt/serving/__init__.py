"""Serving: one frozen model, many prompts by name, swapped without a restart; no ray, no mlflow, no kfp.

follower.py   follow one channel: look, prepare, swap one reference
routing.py    which prompt a request means
bank.py       verified prompts, warm: keys and values computed once per digest
jobs.py       what the HTTP side asks of an engine: the seam between the two
scheduler.py  the engine: one thread, one base, rows of many prompts together
rows.py       a text that is being written
batch.py      what a batch is, and which kind a base gets
slots.py      a batch that rows join and leave between steps; slot_runner.py and slot_cache.py run the base over its slots,
              slot_check.py asks whether that is exact
groups.py     the simple path: rows that came together are written together
choosing.py   which token comes next, for many rows at once
ranking.py    answers to be ranked, rows of one prompt together
numbers.py    what an engine did and has before it
vllm_backend.py  an engine on vLLM, for shallow prompts; vllm_calls.py: what it asks of vLLM
text.py       tokens to text while they come; stop strings
writing.py    one answer on the event loop; answering.py: a request's answers
shadows.py    shadow prompts, after the answer
access.py     who may ask which prompt
limits.py     how much is let in
metrics.py    what Prometheus reads; logs.py, tracing.py
node.py       all of it put together once
http/         the HTTP interface
page/         the page at /
"""
