"""Around every request: its id, its caller, its size, its log line and trace; and whatever goes wrong ends here.

Plain ASGI and outermost, so that nothing is read of a body before its sender is known and its size is allowed, and no stack trace
gets past it, to the client or, with what somebody sent in it, to the log.
"""

import asyncio
import logging
import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from softprompt.serving.access import Caller
from softprompt.serving.http.errors import ClientGone, NotAuthenticated, error_reply, internal_error, reply_for
from softprompt.serving.limits import Overloaded
from softprompt.serving.node import Node
from softprompt.serving.tracing import Tracing

_log = logging.getLogger("softprompt.requests")
_faults = logging.getLogger(__name__)

OPEN_PATHS = ("/", "/page.css", "/page.js", "/livez", "/readyz", "/openapi.json")
"""What needs no token: probes, and a page that has nothing to tell before it is given one."""
OPERATORS_PATHS = ("/metrics",)
BODY_SECONDS = 30.0
"""How long a body may take to come."""
CLIENT_GONE = 499

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Serve = Callable[[Receive, Send], Awaitable[None]]


class _TooLarge(Exception):
    pass


class _TooSlow(Exception):
    pass


@dataclass
class _Passing:
    """One request on its way through.

    Attributes:
        id: Of the request, the client's own if it sent a usable one.
        facts: For the log line; whoever answers the request adds to them.
        status: Of the reply; 0: it has not begun.
    """

    id: str
    facts: dict[str, Any] = field(default_factory=dict)
    status: int = 0
    begun: float = field(default_factory=time.monotonic)


class Guard:
    """ASGI middleware around a node's application.

    Args:
        app: The application.
        node: The node.
        tracing: Traces, if they are switched on.
    """

    def __init__(self, app: ASGIApp, node: Node, tracing: Tracing) -> None:
        self._app, self._node, self._tracing = app, node, tracing
        self._most_at_once = node.limits.max_rows + node.limits.max_waiting
        self._num_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        passing = _Passing(given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex)
        self._num_requests += 1
        try:
            with self._tracing.request(scope["method"], scope["path"], headers) as span:
                await self._answer(scope, receive, _marked(send, passing), headers, passing)
                span.end_with(passing.status, passing.facts)
        finally:
            self._num_requests -= 1
            self._tell(scope, passing)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Headers, passing: _Passing) -> None:
        """Whatever is raised becomes a reply, if none has begun."""
        try:
            caller = self._caller(scope["path"], headers)
            passing.facts |= {"caller": caller.name} if caller and caller.name else {}
            scope.setdefault("state", {}).update(caller=caller, facts=passing.facts)
            body = await self._body(receive, headers) if scope["method"] in ("POST", "PUT", "PATCH") else b""
            await self._app(scope, _replayed(body, receive), send)
        except ClientGone:
            passing.status = passing.status or CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - this is where everything ends
            if passing.status:
                _say(error, passing)
                return
            await self._reply(error, passing)(scope, receive, send)

    def _reply(self, error: Exception, passing: _Passing) -> Any:
        if isinstance(error, _TooLarge):
            most = self._node.limits.max_body_bytes
            message = f"The body is larger than {most} bytes."
            return error_reply(413, message, kind="invalid_request_error", code="body_too_large", headers={"connection": "close"})
        if isinstance(error, _TooSlow):
            return error_reply(
                408, "The body did not come in time.", kind="invalid_request_error", headers={"connection": "close"}
            )
        if isinstance(error, NotAuthenticated | Overloaded):
            return reply_for(error)
        _say(error, passing)
        return internal_error()

    def _caller(self, path: str, headers: Headers) -> Caller | None:
        if path in OPEN_PATHS:
            return None
        caller = self._node.access.caller(headers.get("authorization"))
        if caller is None or (path in OPERATORS_PATHS and not caller.is_operator):
            raise NotAuthenticated(
                "This takes an operator's token." if caller else "A known bearer token is needed.",
                expected="Authorization: Bearer TOKEN",
                hint="Ask the node's operator for one.",
            )
        if self._num_requests > self._most_at_once:
            raise Overloaded("Too many requests at once.", retry_after_seconds=1)
        return caller

    async def _body(self, receive: Receive, headers: Headers) -> bytes:
        """The whole body, within its bounds of size and time."""
        most, parts, size = self._node.limits.max_body_bytes, list[bytes](), 0
        stated = headers.get("content-length", "")
        if stated.isdigit() and int(stated[:20]) > most:
            raise _TooLarge
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise _TooLarge
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise _TooSlow from None

    def _tell(self, scope: Scope, passing: _Passing) -> None:
        seconds = time.monotonic() - passing.begun
        route = scope.get("route")
        path = getattr(route, "path", "") or "(none)"
        self._node.metrics.on_request(path, passing.status, seconds)
        if path in ("/livez", "/readyz", "/metrics") and passing.status < 400:
            return  # somebody asks these all day
        facts = {"id": passing.id, "method": scope["method"], "path": path, "status": passing.status}
        _log.info("request", extra=facts | {"seconds": round(seconds, 4)} | passing.facts)


def _marked(send: Send, passing: _Passing) -> Send:
    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            passing.status = message["status"]
            MutableHeaders(raw=message["headers"])["x-request-id"] = passing.id
        await send(message)

    return marked


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then whatever else comes: that the client went away."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _say(error: Exception, passing: _Passing) -> None:
    """A fault of ours, where it happened; not its message, which may quote what somebody sent."""
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    _faults.error("a fault of ours", extra={"id": passing.id, "fault": type(error).__name__, "at": places[-12:]})
