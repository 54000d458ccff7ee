"""`/v1/classify`: rank a prompt's labels, with probabilities."""

import asyncio
import time

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from softprompt.serving.answering import Answer, RowJob
from softprompt.serving.http.asking import ask, places, tokens_of, unless_gone
from softprompt.serving.http.errors import BadParameter
from softprompt.serving.http.inputs import values_of_texts
from softprompt.serving.http.models import ClassifyReply, ClassifyRequest
from softprompt.serving.jobs import RankJob, Sampling
from softprompt.serving.node import Node
from softprompt.serving.shadows import Shadows


def classify_router(node: Node, shadows: Shadows) -> APIRouter:
    """The route."""
    router = APIRouter()

    @router.post("/v1/classify", response_model=ClassifyReply)
    async def classify(request: ClassifyRequest, http: Request) -> Response:
        """Rank a prompt's labels for one text."""
        asked = await ask(node, http, request.model, request.user)
        if not asked.labels or asked.warm is None:
            raise BadParameter("model", "This prompt writes texts; it has no labels to choose from.", code="unsupported_value")
        values = values_of_texts(asked.encoder.template, request.input, "input")
        [token_ids] = await tokens_of(node, asked, values, "input")
        job = RankJob(prompt=asked.warm, token_ids=token_ids)

        async def rank() -> tuple[float, ...]:
            async with places(node, 1):
                return await asyncio.shield(asyncio.wrap_future(node.engine.rank(job)))

        row = RowJob(warm=asked.warm, encoder=asked.encoder, token_ids=token_ids, max_new_tokens=1, sampling=Sampling())
        answer = Answer(row)
        probabilities: tuple[float, ...] = await unless_gone(http, rank)
        answer.text = max(zip(probabilities, asked.labels, strict=True), key=lambda pair: pair[0])[1]
        answer.pace.token()
        node.metrics.on_answer(asked.route.name, asked.route.digest, len(token_ids), answer.pace)
        http.state.facts |= {"input_tokens": len(token_ids), "seconds": round(time.monotonic() - answer.pace.begun, 4)}
        shadows.after(asked.route, values[0], answer)
        reply = {"label": answer.text, "probabilities": dict(zip(asked.labels, probabilities, strict=True))}
        return JSONResponse(reply, headers=asked.headers)

    return router
