"""`/v1/completions`: continue an input text behind a prompt; a prompt of labels answers with its label."""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from softprompt.serving.answering import Answer
from softprompt.serving.http.asking import ask
from softprompt.serving.http.generation import Reply, make_answers
from softprompt.serving.http.inputs import values_of_texts
from softprompt.serving.http.logprobs import completion_logprobs
from softprompt.serving.http.models import Completion, CompletionRequest
from softprompt.serving.node import Node
from softprompt.serving.shadows import Shadows
from softprompt.serving.writing import Piece


def completions_router(node: Node, shadows: Shadows) -> APIRouter:
    """The route."""
    router = APIRouter()

    @router.post("/v1/completions", response_model=Completion)
    async def create_completion(request: CompletionRequest, http: Request) -> Response:
        """Continue an input text behind a prompt."""
        asked = await ask(node, http, request.model, request.user)
        values = values_of_texts(asked.encoder.template, request.prompt, "prompt")
        answers = await make_answers(
            node,
            asked,
            request,
            values,
            param="prompt",
            max_tokens=request.max_tokens,
            max_tokens_param="max_tokens",
            num_logprobs=request.logprobs or 0,
        )
        return await Reply(
            node=node,
            shadows=shadows,
            http=http,
            request=request,
            asked=asked,
            values=values,
            answers=answers,
            form=_Form(node, request),
        ).send()

    return router


class _Form:
    """OpenAI's completion."""

    def __init__(self, node: Node, request: CompletionRequest) -> None:
        self._tokenizer, self._logprobs, self._offsets = node.text.tokenizer, request.logprobs is not None, dict[int, int]()
        self._has_usage = request.streams_usage
        self._head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": request.model,
        }

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        choices = [self._choice(index, answer.text, answer.tokens, answer.finish_reason) for index, answer in enumerate(answers)]
        return self._head | {"choices": choices}

    def begin(self, index: int) -> None:
        return None

    def piece(self, index: int, piece: Piece) -> dict[str, Any]:
        choices = [self._choice(index, piece.text, piece.tokens, piece.finish_reason)]
        return self._head | {"choices": choices} | ({"usage": None} if self._has_usage else {})

    def usage(self, usage: Mapping[str, int]) -> dict[str, Any]:
        return self._head | {"choices": [], "usage": usage}

    def _choice(self, index: int, text: str, tokens: Sequence[Any], finish_reason: str | None) -> dict[str, Any]:
        logprobs = None
        if self._logprobs:
            logprobs, self._offsets[index] = completion_logprobs(self._tokenizer, tokens, self._offsets.get(index, 0))
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
