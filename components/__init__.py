"""KFP steps: parse inputs, call one library function, write outputs. One file each, named like the step."""

IMAGE = "softprompt/steps:0.1.0"
"""The image every step runs in; `softprompt compile --image` puts another one (by digest) into the package."""
