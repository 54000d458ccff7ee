"""What releasing asks of the registry, and the one thing that it writes there: an alias that says what a channel serves.

The alias is an output. Nothing reads it to decide what to serve, since any editor of the registry can set it.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from softprompt.errors import InvalidRequest, SoftpromptError
from softprompt.registry_review import version_to_review
from softprompt.tracking import talking_to

if TYPE_CHECKING:
    from mlflow import MlflowClient

_NO_VERSION = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def review_lookup(tracking_uri: str) -> Callable[[str, str, str], str]:
    """A look at versions' tag `review.status`, as the release library asks for it.

    Only of versions that are of the very prompt: a file that names another prompt beside a reviewed version is not reviewed.
    The function raises TrackingUnavailable where the server does not answer.
    """

    def status(name: str, version: str, prompt: str) -> str:
        try:
            found = version_to_review(tracking_uri, name, version)
        except InvalidRequest:
            return ""
        return found.status if found.prompt == prompt else ""

    return status


def version_facts(tracking_uri: str, name: str, version: str) -> dict[str, str]:
    """What the registry says about a version: its run, and the digests of prompt, recipe and dataset; empty: no such version.

    Raises:
        TrackingUnavailable: The server does not answer.
    """
    from mlflow.exceptions import MlflowException

    with talking_to(tracking_uri) as mlflow:
        try:
            found = mlflow.get_model_version(name, version)
        except MlflowException as error:
            if error.error_code not in _NO_VERSION:
                raise
            return {}
    tags = {key.removeprefix("softprompt."): str(value) for key, value in found.tags.items()}
    return tags | {"run_id": str(found.run_id or "")}


def set_aliases(tracking_uri: str, alias: str, versions: Mapping[str, str]) -> tuple[str, ...]:
    """Make an alias say which version of each name a channel serves; what is right already is left alone.

    Args:
        tracking_uri: MLflow's address.
        alias: The channel's name.
        versions: Name -> version; an empty version takes the alias away.

    Returns:
        What did not work, for people; never an error, since a publish does not depend on it.
    """
    problems = []
    try:
        with talking_to(tracking_uri) as mlflow:
            for name, version in sorted(versions.items()):
                problems += _set_alias(mlflow, name, alias, version)
    except SoftpromptError as error:
        problems.append(f"alias {alias} not set: {error.what} {error.actual}".rstrip())
    return tuple(problems)


def _set_alias(mlflow: "MlflowClient", name: str, alias: str, version: str) -> list[str]:
    from mlflow.exceptions import MlflowException

    try:
        now = str(mlflow.get_registered_model(name).aliases.get(alias, ""))
        if now == version:
            return []
        if version:
            mlflow.set_registered_model_alias(name, alias, version)
        else:
            mlflow.delete_registered_model_alias(name, alias)
    except MlflowException as error:
        if not version and error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return []
        return [f"alias {alias} of {name} not set to version {version}: {str(error).strip().splitlines()[0]}"]
    return []
