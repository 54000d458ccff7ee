"""The review of versions in MLflow: what is to be decided, and the tags that a decision sets.

Anybody who may edit a model in MLflow can set these tags, so they are where people look, and what a policy may ask for in
addition, never a proof. `release.audit` keeps the proof.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from softprompt.documents import Document
from softprompt.errors import InvalidRequest
from softprompt.fetch.web import without_secrets
from softprompt.registry_version import DECIDED, PROMPT_TAG, STATUS_TAG
from softprompt.tracking import talking_to

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PAGE = 200
"""Versions that are asked for at a time."""


class ReviewedVersion(Document):
    """A registered version as a reviewer sees it."""

    name: str
    version: str
    prompt: str
    """Its digest."""
    status: str
    """`pending`, `approved` or `rejected`; whatever else somebody wrote into the tag."""
    reviewer: str
    note: str
    record: str
    """Channel, number and decision of the newest signed record, as in `staging/12 approved`; empty: there is none."""
    judged_report: str
    """Digest of the gate report that was decided on; empty: nothing was decided from a terminal."""
    report: str
    """Digest of the version's newest gate report."""
    verdict: str
    channel: str
    """Where its run meant it to go."""
    lead: str
    """Over the champion, or else the bare base, in words."""
    created: float
    """Seconds since 1970."""
    page: str
    """Its description, Markdown."""

    @property
    def is_decided(self) -> bool:
        """Whether somebody approved or rejected it."""
        return self.status in DECIDED

    @property
    def is_signed(self) -> bool:
        """Whether the decision is the one of the newest record; if not, somebody set the tag by hand."""
        return self.is_decided and self.record.endswith(f" {self.status}")

    @property
    def evaluated_since(self) -> bool:
        """Whether the decision was about an earlier evaluation than the version has now."""
        return self.is_decided and bool(self.judged_report) and self.judged_report != self.report


def versions_to_review(tracking_uri: str, *, name: str = "", every: bool = False) -> list[ReviewedVersion]:
    """Versions of prompts, the newest first.

    Args:
        tracking_uri: MLflow's address.
        name: Of one registered model; empty: of all.
        every: Decided ones too.

    Raises:
        TrackingUnavailable: The server does not answer.
    """
    conditions = [f"name = '{name}'"] if name else []
    conditions += [] if every else [f"tags.`{STATUS_TAG}` = 'pending'"]
    with talking_to(tracking_uri) as mlflow:
        found = [_reviewed(version) for version in _search(mlflow, " AND ".join(conditions)) if PROMPT_TAG in version.tags]
    return sorted(found, key=lambda version: -version.created)


def version_to_review(tracking_uri: str, name: str, version: str) -> ReviewedVersion:
    """One version.

    Raises:
        InvalidRequest: There is none, or it is no prompt.
        TrackingUnavailable: The server does not answer.
    """
    with talking_to(tracking_uri) as mlflow:
        found = _find(mlflow, name, version)
        others = [] if found else [one.version for one in _search(mlflow, f"name = '{name}'")]
    if found is None:
        raise InvalidRequest(
            "The registry has no such version.",
            where=f"{without_secrets(tracking_uri)}, {name}@{version}",
            expected=f"one of {', '.join(f'{name}@{one}' for one in sorted(others, key=int)[-10:])}" if others else "",
            actual="" if others else f"it knows no version of {name}: a prompt that the gates rejected stays a run without one",
            hint="`softprompt review list --all` shows what there is.",
        )
    if PROMPT_TAG not in found.tags:
        raise InvalidRequest("That version is no prompt of ours.", where=f"{name}@{version}", expected=f"a tag {PROMPT_TAG}")
    return _reviewed(found)


def set_review(tracking_uri: str, reviewed: ReviewedVersion, *, status: str, reviewer: str, note: str, record: str) -> None:
    """Set the tags of a decision, `review.status` last: who reads it finds the others.

    Args:
        tracking_uri: MLflow's address.
        reviewed: The version, as it was decided about.
        status: `approved` or `rejected`.
        reviewer: Who.
        note: Why.
        record: Channel and number of the signed record.

    Raises:
        TrackingUnavailable: The server does not answer, or refused.
    """
    tags = {"review.reviewer": reviewer, "review.note": note, "review.record": f"{record} {status}"}
    tags |= {"review.report": reviewed.report}
    with talking_to(tracking_uri) as mlflow:
        for key, value in (*tags.items(), (STATUS_TAG, status)):
            mlflow.set_model_version_tag(reviewed.name, reviewed.version, key, value)


def _find(mlflow: "MlflowClient", name: str, version: str) -> "ModelVersion | None":
    from mlflow.exceptions import MlflowException

    try:
        return mlflow.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _search(mlflow: "MlflowClient", condition: str) -> "Iterator[ModelVersion]":
    token = None
    while True:
        page = mlflow.search_model_versions(condition, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _reviewed(version: "ModelVersion") -> ReviewedVersion:
    tags = version.tags
    return ReviewedVersion(
        name=version.name,
        version=str(version.version),
        prompt=tags[PROMPT_TAG],
        status=tags.get(STATUS_TAG, ""),
        reviewer=tags.get("review.reviewer", ""),
        note=tags.get("review.note", ""),
        record=tags.get("review.record", ""),
        judged_report=tags.get("review.report", ""),
        report=tags.get("softprompt.gates.report", ""),
        verdict=tags.get("softprompt.gates.verdict", ""),
        channel=tags.get("softprompt.channel", ""),
        lead=tags.get("softprompt.lead", ""),
        created=version.creation_timestamp / 1000,
        page=version.description or "",
    )
