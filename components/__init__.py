"""KFP steps: parse inputs, call one library function, write outputs. One file each, named like the step."""

from kfp import dsl

IMAGE = "softprompt/steps:0.1.0"
"""The image every step runs in; `softprompt compile --image` puts another one (by digest) into the package."""
TASK_SETTINGS = [dsl.TaskConfigPassthrough(field=field, apply_to_task=True) for field in dsl.TaskConfigField]
"""What is set on the task of a heavy step (resources, tolerations, ...) reaches its function, which hands it to the Ray pods."""
