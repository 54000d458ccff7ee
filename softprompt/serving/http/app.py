"""The application of one node: its routes, its guard, and what runs beside the requests."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator

from fastapi import FastAPI

from softprompt.serving.http.catalogue import catalogue_router
from softprompt.serving.http.chat import chat_router
from softprompt.serving.http.classify import classify_router
from softprompt.serving.http.completions import completions_router
from softprompt.serving.http.errors import add_error_replies
from softprompt.serving.http.guard import Guard
from softprompt.serving.http.openapi import describe_openly
from softprompt.serving.http.page import page_router
from softprompt.serving.http.probes import probes_router
from softprompt.serving.node import Node
from softprompt.serving.shadows import Shadows
from softprompt.serving.tracing import Tracing

_log = logging.getLogger(__name__)

JITTER = 0.2


def create_app(node: Node, tracing: Tracing | None = None) -> FastAPI:
    """The application of a node; its engine runs before and after.

    Args:
        node: What it answers with.
        tracing: Traces of requests; None: none.
    """
    tracing = tracing or Tracing()
    shadows = Shadows(node)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        beside = [asyncio.create_task(_poll(node)), asyncio.create_task(shadows.run())]
        yield
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        tracing.shutdown()

    app = FastAPI(
        title="softprompt",
        description="One frozen language model, many tuned prompts: OpenAI's interface, the prompt is chosen by `model`.",
        lifespan=lifespan,
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
    )
    add_error_replies(app)
    for router in (
        catalogue_router(node),
        completions_router(node, shadows),
        chat_router(node, shadows),
        classify_router(node, shadows),
        probes_router(node),
        page_router(),
    ):
        app.include_router(router)
    describe_openly(app)
    app.add_middleware(Guard, node=node, tracing=tracing)
    return app


async def _poll(node: Node) -> None:
    """Look at the channel, over and over; two nodes that start at once do not look at once for ever."""
    while True:
        await asyncio.sleep(node.poll_seconds * random.uniform(1 - JITTER, 1 + JITTER))
        # Whatever goes wrong: a node that stopped looking would serve yesterday's prompts in silence.
        try:
            await asyncio.to_thread(node.follower.refresh)
            node.metrics.forget_all_but(node.follower.snapshot)
        except Exception:  # noqa: BLE001
            _log.exception("looking for a newer generation failed; the node goes on with what it has")
