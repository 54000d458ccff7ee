"""Compile the pipeline to the package that Kubeflow Pipelines runs."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from google.protobuf import struct_pb2
from kfp import compiler, dsl
from kfp.compiler.compiler_utils import KubernetesManifestOptions
from kfp.dsl.graph_component import GraphComponent
from kfp.dsl.pipeline_context import Pipeline

from pipelines.pods import PodSettings
from pipelines.prompt_tuning import DESCRIPTION, prompt_tuning
from softprompt import __version__
from softprompt.errors import InvalidRequest
from softprompt.placement import BACKENDS

Form = Literal["package", "kubernetes"]
CHOICES = {"backend": ["", *BACKENDS], "prompt_kind": ["", "shallow", "deep"]}
"""Parameters the run form draws as dropdowns: KFP 2.17's back end reads them, its SDK cannot write them yet. Where channels are
known, the channel is one of them."""


def compile_pipeline(package: Path, pods: PodSettings | None = None, *, form: Form = "package", namespace: str = "") -> None:
    """Write the pipeline.

    Args:
        package: File to write, `.yaml` or `.yml`.
        pods: Of the steps; None: as `pipelines.pods` says.
        form: `package`: IR YAML to upload or submit. `kubernetes`: the objects `Pipeline` and `PipelineVersion`, for GitOps of
            the pipeline itself where KFP keeps its pipelines in the Kubernetes API.
        namespace: Of these objects, where KFP runs; empty: whoever applies them says.

    Raises:
        InvalidRequest: The file is not YAML by its name.
    """
    if package.suffix not in (".yaml", ".yml"):
        raise InvalidRequest("A pipeline package is a YAML file.", where=str(package), expected="a name that ends with .yaml")
    pods = pods or PodSettings()
    pipeline = _placed(pods)
    channels = {"channel": ["", *pods.channels]} if pods.channels else {}
    for name, choices in (CHOICES | channels).items():
        literals = pipeline.pipeline_spec.root.input_definitions.parameters[name].literals
        literals.extend(struct_pb2.Value(string_value=choice) for choice in choices)
    compiler.Compiler().compile(
        pipeline,
        str(package),
        kubernetes_manifest_format=form == "kubernetes",
        kubernetes_manifest_options=_objects(pipeline, namespace),
    )


def _placed(pods: PodSettings) -> GraphComponent:
    """The pipeline of `prompt_tuning.py`, each task with what its pod needs. The one that runs on a laptop stays as it is."""
    steps: Callable[..., None] = prompt_tuning.pipeline_func

    @functools.wraps(steps)
    def placed(*arguments: object) -> None:
        steps(*arguments)
        for task in Pipeline.get_default_pipeline().tasks.values():
            pods.place(task)

    info = prompt_tuning.pipeline_spec.pipeline_info
    return dsl.pipeline(placed, name=info.name, description=DESCRIPTION, display_name=info.display_name)


def _objects(pipeline: GraphComponent, namespace: str) -> KubernetesManifestOptions:
    """Names of the objects. A PipelineVersion cannot be changed, so another package is another version: its name has a digest."""
    info = pipeline.pipeline_spec.pipeline_info
    parts = (pipeline.pipeline_spec, pipeline.platform_spec)
    digest = hashlib.sha256(b"".join(part.SerializeToString(deterministic=True) for part in parts)).hexdigest()[:12]
    return KubernetesManifestOptions(
        pipeline_name=info.name,
        pipeline_display_name=info.display_name,
        pipeline_version_name=f"{info.name}-{__version__}-{digest}",
        pipeline_version_display_name=f"{__version__} {digest}",
        namespace=namespace or None,
        include_pipeline_manifest=True,
    )
