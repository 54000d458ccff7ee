"""`/`: a page for people, out of three files that lie in this package. It loads nothing from elsewhere and may not."""

from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
FILES = {"/": ("page.html", "text/html"), "/page.css": ("page.css", "text/css"), "/page.js": ("page.js", "text/javascript")}


def page_router() -> APIRouter:
    """The routes."""
    router = APIRouter(include_in_schema=False)
    for path, (file, kind) in FILES.items():
        content = files("softprompt.serving").joinpath("page", file).read_bytes()
        router.add_api_route(path, _reply(content, kind), methods=["GET"])
    return router


def _reply(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return send
