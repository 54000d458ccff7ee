"""Server-sent events: one JSON document each, `[DONE]` at the end."""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from softprompt.errors import SoftpromptError
from softprompt.serving.http.asking import unless_gone
from softprompt.serving.http.errors import internal_error, reply_for

_log = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"


async def event_stream(
    documents: AsyncGenerator[Mapping[str, Any], None], http: Request, headers: Mapping[str, str]
) -> StreamingResponse:
    """A reply to a request that streams documents.

    The first one is waited for before the reply begins, so that what fails at once has a status of its own. What fails later is
    an event in OpenAI's form of an error, and no `[DONE]` follows.
    """
    try:
        first = await unless_gone(http, lambda: anext(documents))
    except BaseException:
        await documents.aclose()
        raise
    unbuffered = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return _Stream(_events(first, documents), documents, {**headers, **unbuffered})


class _Stream(StreamingResponse):
    """Ends what it streams, at the latest when the client has gone."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], documents: AsyncGenerator[Any, None], headers: Mapping[str, str]) -> None:
        super().__init__(events, headers=headers)
        self._documents = documents

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._documents.aclose()


async def _events(first: Mapping[str, Any], rest: AsyncGenerator[Mapping[str, Any], None]) -> AsyncIterator[bytes]:
    try:
        yield _event(first)
        async for document in rest:
            yield _event(document)
        yield DONE
    except SoftpromptError as error:
        yield b"data: " + bytes(reply_for(error).body) + b"\n\n"
    except Exception as error:  # noqa: BLE001 - the client must hear that this was not all
        _log.error("a stream failed", extra={"fault": type(error).__name__})
        yield b"data: " + bytes(internal_error().body) + b"\n\n"


def _event(document: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
