"""A request's rows as answers: texts that the engine writes, or labels that it ranks, one form for both."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from softprompt.engine.encoding import TextEncoder
from softprompt.serving.bank import WarmPrompt
from softprompt.serving.jobs import Engine, FinishReason, GenerateJob, NewToken, RankJob, Sampling
from softprompt.serving.text import AnswerText
from softprompt.serving.writing import LabelToken, Pace, Piece, write, write_label


@dataclass(frozen=True, kw_only=True)
class RowJob:
    """One answer that is wanted."""

    warm: WarmPrompt | None
    """None: the bare base."""
    encoder: TextEncoder
    token_ids: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling
    stop: Sequence[str] = ()
    num_logprobs: int = 0


@dataclass
class Answer:
    """One answer, as far as it has come."""

    row: RowJob
    text: str = ""
    tokens: list[NewToken | LabelToken] = field(default_factory=list)
    num_tokens: int = 0
    finish_reason: FinishReason | None = None
    pace: Pace = field(default_factory=Pace)

    async def pieces(self, engine: Engine) -> AsyncGenerator[Piece, None]:
        """Piece by piece; each is part of this answer from then on. Leaving the iterator cancels the rest."""
        self.pace = Pace()
        async with aclosing(_pieces(engine, self.row, self.pace)) as pieces:
            async for piece in pieces:
                self.text += piece.text
                self.tokens += piece.tokens
                self.num_tokens += piece.num_tokens
                self.finish_reason = piece.finish_reason
                yield piece


async def finish(engine: Engine, answers: Sequence[Answer]) -> None:
    """Write answers to their ends, together; the first that fails ends all."""

    async def one(answer: Answer) -> None:
        async with aclosing(answer.pieces(engine)) as pieces:
            async for _ in pieces:
                pass

    tasks = [asyncio.create_task(one(answer)) for answer in answers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def together(engine: Engine, answers: Sequence[Answer]) -> AsyncGenerator[tuple[int, Piece], None]:
    """(index of the answer, piece) of several answers, as they come; leaving the iterator cancels the rest."""
    found: asyncio.Queue[tuple[int, Piece] | BaseException | None] = asyncio.Queue()

    async def one(index: int) -> None:
        try:
            async with aclosing(answers[index].pieces(engine)) as pieces:
                async for piece in pieces:
                    found.put_nowait((index, piece))
            found.put_nowait(None)
        except Exception as error:  # noqa: BLE001 - whoever waits for the pieces must hear of it
            found.put_nowait(error)

    tasks = [asyncio.create_task(one(index)) for index in range(len(answers))]
    try:
        running = len(tasks)
        while running:
            event = await found.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                running -= 1
            else:
                yield event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _pieces(engine: Engine, row: RowJob, pace: Pace) -> AsyncGenerator[Piece, None]:
    if row.warm and row.warm.manifest.answers:
        said = {answer.label: answer.text for answer in row.warm.manifest.answers}
        job = RankJob(prompt=row.warm, token_ids=row.token_ids)
        return write_label(
            engine, job, tuple(said), lambda label: len(row.encoder.answer_ids(said[label])), row.sampling, row.num_logprobs, pace
        )
    text = AnswerText(row.encoder.tokenizer, row.stop, strip=row.warm is not None)
    generate = GenerateJob(
        prompt=row.warm,
        token_ids=row.token_ids,
        max_new_tokens=row.max_new_tokens,
        sampling=row.sampling,
        num_logprobs=row.num_logprobs,
    )
    return write(engine, generate, text, pace)
