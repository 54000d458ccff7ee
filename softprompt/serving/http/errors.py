"""What goes wrong, in OpenAI's form; never a stack trace, never what somebody sent."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from softprompt.errors import FingerprintMismatch, InvalidRequest, ServiceUnavailable, SoftpromptError
from softprompt.serving.limits import Overloaded
from softprompt.serving.routing import RevokedPrompt, UnknownPrompt

_log = logging.getLogger(__name__)


class BadParameter(InvalidRequest):
    """A parameter asks for what cannot be done.

    Args:
        param: Its name.
        what: Why.
        code: OpenAI's word for it, where it has one.
    """

    def __init__(self, param: str, what: str, *, code: str = "invalid_value", **facts: str) -> None:
        super().__init__(what, **facts)
        self.param, self.code = param, code


class NotAuthenticated(InvalidRequest):
    """No token, or one that nobody knows."""


class ClientGone(Exception):
    """Nobody waits for the reply any more."""


def error_reply(
    status: int, message: str, *, kind: str, param: str | None = None, code: str | None = None, headers: Mapping[str, str] = {}
) -> JSONResponse:
    """One error.

    Args:
        status: HTTP's.
        message: For a person.
        kind: OpenAI's `type`.
        param: Which parameter is wrong.
        code: OpenAI's `code`.
        headers: Of the reply.
    """
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status, headers=dict(headers))


def reply_for(error: SoftpromptError) -> JSONResponse:
    """What a client is told of an error of ours; faults of the node are told without their details, which the log has."""
    if isinstance(error, NotAuthenticated):
        headers = {"www-authenticate": "Bearer"}
        return error_reply(401, str(error), kind="invalid_request_error", code="invalid_api_key", headers=headers)
    if isinstance(error, Overloaded):
        headers = {"retry-after": str(error.retry_after_seconds)}
        return error_reply(429, str(error), kind="rate_limit_error", code="rate_limit_exceeded", headers=headers)
    if isinstance(error, UnknownPrompt | FingerprintMismatch):
        code = "model_revoked" if isinstance(error, RevokedPrompt) else "model_not_found"
        return error_reply(404, str(error), kind="invalid_request_error", param="model", code=code)
    if isinstance(error, BadParameter):
        return error_reply(400, str(error), kind="invalid_request_error", param=error.param, code=error.code)
    if isinstance(error, InvalidRequest):
        return error_reply(400, str(error), kind="invalid_request_error")
    _log.error("a request failed", extra={"fault": f"{type(error).__name__}: {error.what}", "facts": error.facts})
    if isinstance(error, ServiceUnavailable):
        message = "This node cannot answer with this prompt now. Ask again later, or ask its operator."
        return error_reply(503, message, kind="server_error", code="unavailable", headers={"retry-after": "5"})
    return internal_error()


def internal_error() -> JSONResponse:
    """A fault of ours."""
    return error_reply(500, "The node has a fault. It is in its log.", kind="server_error", code="internal_error")


def add_error_replies(app: FastAPI) -> None:
    """Answer every error in one form."""

    @app.exception_handler(SoftpromptError)
    async def ours(_: Request, error: SoftpromptError) -> JSONResponse:
        return reply_for(error)

    @app.exception_handler(RequestValidationError)
    async def unreadable(_: Request, error: RequestValidationError) -> JSONResponse:
        found = _most_telling(error.errors())
        param, message, code = describe(found)
        return error_reply(400, message, kind="invalid_request_error", param=param, code=code)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        return error_reply(
            error.status_code, str(error.detail), kind="invalid_request_error", code=code, headers=error.headers or {}
        )


def describe(found: Mapping[str, Any]) -> tuple[str | None, str, str]:
    """(parameter, message, code) of one of pydantic's findings; what was sent is not repeated."""
    # Among the alternatives that a value may be, pydantic names the one that it looked at: `content.list[TextPart].0`.
    path = [str(part) for part in found["loc"] if part not in ("body", "str") and not re.search(r"[\[(-]", str(part))]
    param = path[0] if path else None
    place = ".".join(path)
    if found["type"] == "extra_forbidden":
        return param, f"Unsupported parameter: '{place}'.", "unsupported_parameter"
    if found["type"] in ("json_invalid", "missing") and not path:
        return None, "The body has to be a JSON object.", "invalid_json"
    if found["type"] == "missing":
        return param, f"Missing parameter: '{place}'.", "missing_required_parameter"
    said = found["msg"].removeprefix("Value error, ")
    if not param and ": " in said:  # our own checks over several parameters name them themselves
        param, _, said = said.partition(": ")
        place = param
    if "not supported" in said:
        return param, f"'{place}' {said}", "unsupported_value"
    return param, f"Invalid '{place}': {said}.", "invalid_value"


def _most_telling(findings: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """A parameter that nobody knows comes first: it is what a person has to take away."""
    return next((found for found in findings if found["type"] == "extra_forbidden"), findings[0])
