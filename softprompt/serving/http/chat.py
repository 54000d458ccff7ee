"""`/v1/chat/completions`: answer a conversation, as far as the prompt was tuned on conversations."""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from softprompt.serving.answering import Answer
from softprompt.serving.http.asking import ask, chat_of
from softprompt.serving.http.generation import Reply, make_answers
from softprompt.serving.http.inputs import values_of_conversation
from softprompt.serving.http.logprobs import chat_logprobs
from softprompt.serving.http.models import ChatCompletion, ChatRequest
from softprompt.serving.node import Node
from softprompt.serving.shadows import Shadows
from softprompt.serving.writing import Piece


def chat_router(node: Node, shadows: Shadows) -> APIRouter:
    """The route."""
    router, render = APIRouter(), chat_of(node)

    @router.post("/v1/chat/completions", response_model=ChatCompletion)
    async def create_chat_completion(request: ChatRequest, http: Request) -> Response:
        """Answer a conversation with a prompt."""
        asked = await ask(node, http, request.model, request.user, conversation=True)
        values = [values_of_conversation(asked.encoder.template, request.messages, render)]
        answers = await make_answers(
            node,
            asked,
            request,
            values,
            param="messages",
            max_tokens=request.max_completion_tokens or request.max_tokens,
            max_tokens_param="max_completion_tokens" if request.max_completion_tokens else "max_tokens",
            num_logprobs=request.top_logprobs or 0,
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
    """OpenAI's chat completion."""

    def __init__(self, node: Node, request: ChatRequest) -> None:
        self._tokenizer, self._logprobs = node.text.tokenizer, bool(request.logprobs)
        self._has_usage = request.streams_usage
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": request.model}

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": self._said(answer.tokens),
                "finish_reason": answer.finish_reason,
            }
            for index, answer in enumerate(answers)
        ]
        return self._head | {"object": "chat.completion", "choices": choices}

    def begin(self, index: int) -> dict[str, Any]:
        return self._chunk(index, {"role": "assistant", "content": ""}, None, None)

    def piece(self, index: int, piece: Piece) -> dict[str, Any]:
        delta = {"content": piece.text} if piece.text else {}
        return self._chunk(index, delta, self._said(piece.tokens), piece.finish_reason)

    def usage(self, usage: Mapping[str, int]) -> dict[str, Any]:
        return self._head | {"object": "chat.completion.chunk", "choices": [], "usage": usage}

    def _chunk(self, index: int, delta: dict[str, Any], logprobs: Any, finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        usage = {"usage": None} if self._has_usage else {}
        return self._head | {"object": "chat.completion.chunk", "choices": [choice]} | usage

    def _said(self, tokens: Sequence[Any]) -> dict[str, Any] | None:
        return chat_logprobs(self._tokenizer, tokens) if self._logprobs else None
