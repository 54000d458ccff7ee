"""The policies of infra/terraform, rendered as Terraform renders them, in the form that a real S3 server (versitygw) takes.

That server knows bucket policies only, and refuses the condition key `s3:if-none-match` as malformed: statements with it are
taken without it (Allow) or left out (Deny).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

TERRAFORM = Path(__file__).parents[1] / "infra" / "terraform"
CREATE_ONLY = {"Null": {"s3:if-none-match": "false"}}


def render(name: str, **values: str) -> dict[str, Any]:
    """A template as Terraform's `templatefile` renders it; the templates use plain names only."""
    text = (TERRAFORM / "policies" / f"{name}.json.tftpl").read_text()
    found: dict[str, Any] = json.loads(Template(text).substitute(values))
    return found


def statements(duty: str, user: str, **values: str) -> Iterator[dict[str, Any]]:
    """A duty's statements as part of a bucket's policy, for one user."""
    for statement in render(duty, **values)["Statement"]:
        tried = {key: value for key, value in statement.items() if key != "Condition"}
        assert statement.get("Condition") in (None, CREATE_ONLY)
        # The server asks that a statement be about the bucket or about objects, never both, and that its actions fit.
        yield tried | {"Sid": f"{duty}{statement['Sid']}", "Principal": {"AWS": [user]}}


def guards(**values: str) -> list[dict[str, Any]]:
    """What nobody may do, as far as the server knows the conditions."""
    return [statement for statement in render("bucket", **values)["Statement"] if "Condition" not in statement]
