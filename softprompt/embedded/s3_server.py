"""The process of the embedded S3 server: ministack, with uploads that are stored whole or not at all.

ministack takes a connection that breaks in the middle of an upload for the end of the upload, and stores what has come
so far: an empty object, where a publisher was killed between the headers and the body. S3 stores nothing then.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import ministack.app

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_App = Callable[[dict[str, Any], _Receive, Any], Awaitable[None]]


class _Disconnected(Exception):
    """The client went away."""


def whole_uploads(app: _App) -> _App:
    """The ASGI application, except that a request whose client goes away before its body is whole is not answered."""

    async def serve(scope: dict[str, Any], receive: _Receive, send: Any) -> None:
        async def receive_or_leave() -> dict[str, Any]:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Disconnected
            return message

        try:
            await app(scope, receive_or_leave, send)
        except _Disconnected:
            return

    return serve


if __name__ == "__main__":
    ministack.app.app = whole_uploads(ministack.app.app)  # what its `main` serves
    ministack.app.main()
