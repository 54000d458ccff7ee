"""Compile the pipeline to the package that Kubeflow Pipelines runs."""

from pathlib import Path
from typing import Any

from kfp import compiler
from ruamel.yaml import YAML

from components import IMAGE
from pipelines.prompt_tuning import prompt_tuning

CHOICES = {"backend": ["", "local", "rayjob"], "prompt_kind": ["", "shallow", "deep"]}
"""Parameters the run form draws as dropdowns: KFP 2.17's back end reads them, its SDK cannot write them yet."""


def compile_pipeline(package: Path, *, image: str = IMAGE) -> None:
    """Write the IR YAML of the pipeline.

    Args:
        package: File to write.
        image: Image of every step, best by digest.
    """
    compiler.Compiler().compile(prompt_tuning, str(package))
    yaml = YAML()
    yaml.width = 1_000_000
    documents: list[Any] = list(yaml.load_all(package.read_text()))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = image
    for name, values in CHOICES.items():
        documents[0]["root"]["inputDefinitions"]["parameters"][name]["literals"] = values
    with package.open("w") as file:
        yaml.dump_all(documents, file)
