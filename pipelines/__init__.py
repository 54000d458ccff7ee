"""Pipelines: DAGs only. What a step does is in `softprompt/`, how KFP calls it in `components/`."""
