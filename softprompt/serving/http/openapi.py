"""The interface's description, as it is: errors in their own form, and bearer tokens where the node asks for them."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from softprompt import __version__
from softprompt.serving.http.guard import OPEN_PATHS
from softprompt.serving.http.models import ErrorReply

_ERRORS = {
    "400": "The request cannot be answered as it is; the message says why.",
    "401": "No token, or an unknown one.",
    "404": "The channel serves no such prompt, or not to this caller.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "429": "The node has no place now; `Retry-After` says when to ask again.",
    "503": "The node cannot have this prompt now.",
}


def describe_openly(app: FastAPI) -> None:
    """Replace FastAPI's own description, which speaks of errors that nobody gets."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        found = get_openapi(title=app.title, version=__version__, description=app.description, routes=app.routes)
        schemas = found["components"]["schemas"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        error = ErrorReply.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= error.pop("$defs") | {"ErrorReply": error}
        found["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        for path, methods in found["paths"].items():
            for operation in methods.values():
                _describe(operation, path)
        app.openapi_schema = found
        return found

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to do it


def _describe(operation: dict[str, Any], path: str) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    if path in OPEN_PATHS:
        return
    operation["security"] = [{"bearer": []}, {}]
    reply = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorReply"}}}
    for status, description in _ERRORS.items():
        responses.setdefault(status, {"description": description, "content": reply})
