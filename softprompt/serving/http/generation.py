"""What completions and chat completions share: rows, places, answers, usage, shadows."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from softprompt.serving.answering import Answer, RowJob, finish, together
from softprompt.serving.http.asking import Asked, new_tokens, places, samplings, tokens_of, unless_gone
from softprompt.serving.http.errors import BadParameter
from softprompt.serving.http.models import Drawing
from softprompt.serving.http.streaming import event_stream
from softprompt.serving.node import Node
from softprompt.serving.shadows import Shadows
from softprompt.serving.writing import Piece


class Form(Protocol):
    """How one kind of reply is written down."""

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The reply, without usage."""

    def begin(self, index: int) -> dict[str, Any] | None:
        """What a stream says before an answer's first piece."""

    def piece(self, index: int, piece: Piece) -> dict[str, Any]:
        """What a stream says of a piece."""

    def usage(self, usage: Mapping[str, int]) -> dict[str, Any]:
        """What a stream says at its end."""


async def make_answers(
    node: Node,
    asked: Asked,
    request: Drawing,
    values: Sequence[dict[str, str]],
    *,
    param: str,
    max_tokens: int | None,
    max_tokens_param: str,
    num_logprobs: int,
) -> list[Answer]:
    """The answers that a request wants, not yet begun: `n` for each input text, in order.

    Raises:
        BadParameter: They cannot be written.
    """
    ids = await tokens_of(node, asked, values, param)
    longest = new_tokens(node, asked, ids, max_tokens, max_tokens_param)
    if asked.labels:
        _check_labels(asked, request, max_tokens, max_tokens_param)
    drawn = samplings(request, request.num_choices)
    return [
        Answer(
            RowJob(
                warm=asked.warm,
                encoder=asked.encoder,
                token_ids=token_ids,
                max_new_tokens=max_new_tokens,
                sampling=sampling,
                stop=request.stop or (),
                num_logprobs=num_logprobs,
            )
        )
        for token_ids, max_new_tokens in zip(ids, longest, strict=True)
        for sampling in drawn
    ]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One request's answers on their way to the client.

    Attributes:
        node: This one.
        shadows: Learn of whole answers.
        http: The request as it came.
        request: What it says.
        asked: Its prompt.
        values: Of the template, for each input text.
        answers: `n` for each input text, in order.
        form: How they are written down.
    """

    node: Node
    shadows: Shadows
    http: Request
    request: Drawing
    asked: Asked
    values: Sequence[dict[str, str]]
    answers: Sequence[Answer]
    form: Form

    async def send(self) -> Response:
        """Write the answers, all at once or as a stream."""
        if self.request.stream:
            return await event_stream(self._documents(), self.http, self.asked.headers)
        try:
            await unless_gone(self.http, self._finish)
        finally:
            self._count()
        self._shadow()
        return JSONResponse(self.form.whole(self.answers) | {"usage": self.usage}, headers=self.asked.headers)

    @property
    def usage(self) -> dict[str, int]:
        """Tokens of input texts, each once, and of answers."""
        read = sum(len(answer.row.token_ids) for answer in self.answers[:: self.request.num_choices])
        written = sum(answer.num_tokens for answer in self.answers)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    async def _finish(self) -> None:
        async with places(self.node, len(self.answers)):
            await finish(self.node.engine, self.answers)

    async def _documents(self) -> AsyncGenerator[dict[str, Any], None]:
        """What a stream says. The places are held until it ends, however it ends."""
        begun: set[int] = set()
        try:
            async with places(self.node, len(self.answers)), aclosing(together(self.node.engine, self.answers)) as pieces:
                async for index, piece in pieces:
                    if index not in begun and (first := self.form.begin(index)):
                        yield first
                    begun.add(index)
                    yield self.form.piece(index, piece)
            if self.request.streams_usage:
                yield self.form.usage(self.usage)
        finally:
            self._count()
        self._shadow()

    def _count(self) -> None:
        read = [len(answer.row.token_ids) for answer in self.answers]
        for answer, num_tokens in zip(self.answers, read, strict=True):
            self.node.metrics.on_answer(self.asked.route.name, self.asked.route.digest, num_tokens, answer.pace)
        self.http.state.facts |= {
            "input_tokens": sum(read),
            "answer_tokens": sum(answer.num_tokens for answer in self.answers),
            "finish": sorted({answer.finish_reason or "cut" for answer in self.answers}),
        }

    def _shadow(self) -> None:
        for index, answer in enumerate(self.answers):
            self.shadows.after(self.asked.route, self.values[index // self.request.num_choices], answer)


def _check_labels(asked: Asked, request: Drawing, max_tokens: int | None, max_tokens_param: str) -> None:
    """A label comes whole or not at all."""
    if request.stop:
        raise BadParameter(
            "stop", "This prompt answers with one of its labels, which end by themselves.", code="unsupported_value"
        )
    assert asked.manifest is not None, "the bare base has no labels"
    longest = max(len(asked.encoder.answer_ids(answer.text)) for answer in asked.manifest.answers)
    if max_tokens is not None and max_tokens < longest:
        raise BadParameter(
            max_tokens_param,
            "This prompt answers with one of its labels, and half a label is none.",
            expected=f">= {longest}",
            actual=str(max_tokens),
        )
