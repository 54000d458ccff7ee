"""One registered version for one prompt, with its evidence as tags and its review page as description.

MLflow numbers versions, and nothing in it says that two are the same prompt. So a version is made with the prompt's digest on it,
and then everybody looks: of several with one digest the lowest number stays. Numbers grow in the order of commit, so of those who
register at the same time all see the lowest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from softprompt.artifact import PromptFile
from softprompt.numerics import FORMATS
from softprompt.registry_evaluation import record_model_metrics
from softprompt.resolve import ResolvedRecipe

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from softprompt.evaluation.gate_report import GateReport

MODEL_FILE = Path(__file__).with_name("registry_model.py")
_ATTEMPTS = 3
DECIDED = ("approved", "rejected")
PROMPT_TAG, STATUS_TAG = "softprompt.prompt", "review.status"


def the_version(
    mlflow: "MlflowClient", run_id: str, resolved: ResolvedRecipe, prompt: Path, file: PromptFile, tags: Mapping[str, str]
) -> str:
    """The number of the one version of this prompt, made now unless there is one.

    Args:
        mlflow: The client.
        run_id: The run that tuned it.
        resolved: The recipe.
        prompt: Directory of the prompt file.
        file: The same, read.
        tags: The newest evaluation's; a reviewer's decision stays.
    """
    name = resolved.recipe.name
    if not _of_prompt(mlflow, name, file.digest):
        _create_model(mlflow, name)
        source = _log_model(run_id, resolved, prompt, file)
        # Named at creation, so that a crash never leaves a version that cannot be recognised.
        first = {PROMPT_TAG: file.digest, STATUS_TAG: "pending", **tags}
        mlflow.create_model_version(name, source, run_id, tags=first, model_id=_model_id(source))
    kept, *others = _of_prompt(mlflow, name, file.digest)
    for other in others:
        _take_back(mlflow, other, kept)
    for key, value in tags.items():
        if kept.tags.get(key) != value:
            _set_tag(mlflow, kept, key, value)
    return str(kept.version)


def describe_version(mlflow: "MlflowClient", name: str, version: str, report: "GateReport", page: str) -> None:
    """Give a version the page and the metrics of its newest evaluation.

    Args:
        mlflow: The client.
        name: Of the registered model.
        version: Its number.
        report: The evaluation.
        page: The description, Markdown.
    """
    known = mlflow.get_model_version(name, version)
    if known.run_id and (model := _model_id(known.source)):
        record_model_metrics(mlflow, known.run_id, model, report)
    if known.description != page:
        mlflow.update_model_version(name, version, description=page)


def _set_tag(mlflow: "MlflowClient", version: "ModelVersion", key: str, value: str) -> None:
    """Set a tag that somebody else may be setting for the first time, which MLflow on PostgreSQL refuses to one of the two."""
    from mlflow.exceptions import MlflowException

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            mlflow.set_model_version_tag(version.name, version.version, key, value)
        except MlflowException:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def _of_prompt(mlflow: "MlflowClient", name: str, digest: str) -> "list[ModelVersion]":
    """Versions of a prompt, the lowest number first."""
    found = mlflow.search_model_versions(f"name = '{name}' AND tags.`{PROMPT_TAG}` = '{digest}'")
    return sorted(found, key=lambda version: int(version.version))


def _create_model(mlflow: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        mlflow.create_registered_model(name, description=f"Soft prompts for {name}.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _take_back(mlflow: "MlflowClient", version: "ModelVersion", kept: "ModelVersion") -> None:
    """Remove a version that came second, and its model; one that somebody has decided about stays."""
    from mlflow.exceptions import MlflowException

    if version.tags.get(STATUS_TAG) in DECIDED:
        return
    try:
        mlflow.delete_model_version(version.name, version.version)
        if version.source != kept.source and (model := _model_id(version.source)):
            mlflow.delete_logged_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # else whoever made it was faster
            raise


def _log_model(run_id: str, resolved: ResolvedRecipe, prompt: Path, file: PromptFile) -> str:
    """The prompt file as a LoggedModel whose code is a file, never a pickle; returns its URI."""
    import mlflow

    dtype = resolved.recipe.base_model.dtype
    with mlflow.start_run(run_id=run_id):
        info = mlflow.pyfunc.log_model(
            name="prompt",
            python_model=str(MODEL_FILE),
            artifacts={"prompt": str(prompt)},
            model_config={"base": resolved.base.uri, "dtype": dtype},
            pip_requirements=["softprompt[quantised]" if FORMATS[dtype].quantised else "softprompt"],
            metadata={"prompt": file.digest, "base_fingerprint": file.manifest.base_fingerprint},
        )
    return str(info.model_uri)


def _model_id(uri: str | None) -> str | None:
    return uri.removeprefix("models:/") if uri and uri.startswith("models:/") else None
