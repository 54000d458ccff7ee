"""The HTTP interface, first form: OpenAI's `/v1/models` and `/v1/completions`, our `/v1/classify`, and two health probes.

The prompt is chosen by `model`; an unknown name is 404, never the bare base. Tensors are never accepted from clients.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, StringConstraints

from softprompt.errors import FingerprintMismatch, InvalidRequest, SoftpromptError
from softprompt.serving.bank import PromptBank, WarmPrompt
from softprompt.serving.follower import Follower, Route, UnknownPrompt
from softprompt.serving.jobs import Event, Failed, GenerateJob, NewToken, RankJob
from softprompt.serving.scheduler import BatchEngine
from softprompt.template import values_for

_log = logging.getLogger(__name__)
POLL_SECONDS = 5.0
InputText = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]


class CompletionRequest(BaseModel):
    """The part of OpenAI's request that is understood; anything else is refused rather than ignored."""

    model_config = ConfigDict(extra="forbid")

    model: str
    prompt: InputText
    """The input text; the manifest's template is put around it."""


class ClassifyRequest(BaseModel):
    """A text, or the values of a template with several fields."""

    model_config = ConfigDict(extra="forbid")

    model: str
    input: InputText | dict[str, str]


def create_app(follower: Follower, bank: PromptBank, engine: BatchEngine, *, poll_seconds: float = POLL_SECONDS) -> FastAPI:
    """The application of one node.

    Args:
        follower: Of the node's channel.
        bank: Of its base model.
        engine: Of its base model; begins and ends with the application.
        poll_seconds: How often the channel is looked at.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with engine:
            polling = asyncio.create_task(_poll(follower, poll_seconds))
            yield
            polling.cancel()

    app = FastAPI(title="softprompt", lifespan=lifespan)

    async def warmed(model: str, given: str | dict[str, str]) -> tuple[Route, WarmPrompt, tuple[int, ...]]:
        route = follower.route(model)
        warm = await asyncio.to_thread(bank.get, route.digest, route.snapshot)
        values = values_for(warm.manifest.template, given)
        return route, warm, tuple(warm.predictor.task.encoder.input_ids(values))

    @app.exception_handler(SoftpromptError)
    async def explain(_: Request, error: SoftpromptError) -> JSONResponse:
        status = (
            404 if isinstance(error, UnknownPrompt | FingerprintMismatch) else 400 if isinstance(error, InvalidRequest) else 503
        )
        return JSONResponse({"error": {"message": str(error), "type": type(error).__name__}}, status)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "softprompt"} for name in follower.names]}

    @app.post("/v1/completions")
    async def completions(request: CompletionRequest) -> JSONResponse:
        route, warm, token_ids = await warmed(request.model, request.prompt)
        written = await _written(
            engine, GenerateJob(prompt=warm, token_ids=token_ids, max_new_tokens=warm.manifest.max_new_tokens)
        )
        text = warm.predictor.task.encoder.tokenizer.decode(written, skip_special_tokens=True)
        choice = {"index": 0, "text": str(text).strip(), "finish_reason": "stop", "logprobs": None}
        body = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time())}
        return JSONResponse(body | {"model": request.model, "choices": [choice]}, headers=_headers(route))

    @app.post("/v1/classify")
    async def classify(request: ClassifyRequest) -> JSONResponse:
        route, warm, token_ids = await warmed(request.model, request.input)
        if not warm.manifest.answers:
            raise InvalidRequest("This prompt generates text; it has no labels to choose from.", where=request.model)
        scores = await asyncio.wrap_future(engine.rank(RankJob(prompt=warm, token_ids=token_ids)))
        probabilities = dict(zip((found.label for found in warm.manifest.answers), scores, strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        return JSONResponse({"label": label, "probabilities": probabilities}, headers=_headers(route))

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> dict[str, Any]:
        return {"generation": follower.snapshot.generation, "stale": follower.snapshot.stale, "prompts": follower.names}

    return app


async def _written(engine: BatchEngine, job: GenerateJob) -> list[int]:
    """The tokens of a text, once it has ended."""
    loop, tokens = asyncio.get_running_loop(), list[int]()
    ended: asyncio.Future[list[int]] = loop.create_future()

    def hear(event: Event) -> None:
        if isinstance(event, NewToken):
            tokens.append(event.token_id)
        elif isinstance(event, Failed):
            loop.call_soon_threadsafe(ended.set_exception, event.error)
        else:
            loop.call_soon_threadsafe(ended.set_result, tokens)

    engine.generate(job, hear)
    return await ended


def _headers(route: Route) -> dict[str, str]:
    return {"x-softprompt-digest": f"sha256:{route.digest}", "x-softprompt-generation": str(route.snapshot.generation)}


async def _poll(follower: Follower, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        # Whatever goes wrong: a node that stopped looking would serve yesterday's prompts in silence.
        try:
            await asyncio.to_thread(follower.refresh)
        except Exception:  # noqa: BLE001
            _log.exception("looking for a newer generation failed; the node goes on with what it has")
