"""Release: signed, immutable statements of what a channel serves, in an object store; no torch, no mlflow, no ray, no kfp."""
