"""`/livez`, `/readyz`, `/metrics`: for the machines that look after this node; nothing of a prompt is in the first two."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from softprompt.serving.node import Node


def probes_router(node: Node) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/livez", responses={503: {"description": "The engine has ended."}})
    async def livez() -> Response:
        """Whether this process can still answer; if not, it has to be started again."""
        alive = node.engine.is_alive
        return JSONResponse({"status": "alive" if alive else "dead"}, 200 if alive else 503)

    @router.get("/readyz", responses={503: {"description": "A pinned prompt is not warm."}})
    async def readyz() -> Response:
        """Whether requests should be sent here: the channel's pinned prompts are verified and warm."""
        snapshot = node.follower.snapshot
        pinned = node.follower.pinned(snapshot)
        cold = sum(not node.bank.is_warm(digest) for digest in pinned)
        found: dict[str, Any] = {
            "status": "not ready" if cold else "ready",
            "generation": snapshot.generation,
            "stale": snapshot.stale,
            "alarms": len(snapshot.alarms),
            "prompts": len(node.follower.names),
            "pinned": len(pinned),
            "cold": cold,
        }
        return JSONResponse(found, 503 if cold else 200)

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """In Prometheus' text format. Names of prompts are in it: where there are tokens, it takes an operator's."""
        return Response(node.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
