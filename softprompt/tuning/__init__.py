"""Tuning: find the vectors that make a frozen base do a task.

initialisers.py      where a prompt starts
job.py               everything one candidate is trained with, tokenised
loop.py              the training loop of one candidate
population.py        several candidates over one frozen base; the best on validation wins
checkpoint.py        a state of the loop on disk, complete or absent
checkpoint_store.py  where a run's checkpoints lie, local or in S3
workers.py           what the workers of one training exchange
ray_train.py         the loop under Ray Train: the driver's side
ray_worker.py        the workers' side
tune.py              the step `tune_prompt`
training_log.py      what a run reports about its training
"""
