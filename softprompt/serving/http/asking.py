"""What every request goes through: whose it is, which prompt it means, its tokens, how long the answer may be."""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from softprompt.artifact import Manifest
from softprompt.engine.conversation import RenderChat, chat_renderer
from softprompt.engine.encoding import CONVERSATION_TEMPLATE, TextEncoder
from softprompt.errors import UnsupportedBaseModel
from softprompt.serving.access import Caller
from softprompt.serving.bank import WarmPrompt
from softprompt.serving.http.errors import BadParameter, ClientGone
from softprompt.serving.http.models import Drawing
from softprompt.serving.jobs import Sampling
from softprompt.serving.node import Node
from softprompt.serving.routing import Route, names_on, unknown_prompt

STICKY_HEADER = "x-softprompt-sticky"
MOST_CHARACTERS_AT_ONCE = 4_000
"""Longer texts are tokenised in a thread, so that others' tokens go on."""
BARE_TOKENS = 16
"""Longest answer of the bare base by default, as OpenAI's completions have it."""

_one_tokenizer = threading.Lock()


@dataclass(frozen=True)
class Asked:
    """A request whose prompt is ready.

    Attributes:
        route: Name, digest, generation.
        warm: The prompt; None: the bare base.
        encoder: Fills and tokenises its template.
    """

    route: Route
    warm: WarmPrompt | None
    encoder: TextEncoder

    @property
    def manifest(self) -> Manifest | None:
        """What the prompt says of itself; None: the bare base."""
        return self.warm.manifest if self.warm else None

    @property
    def labels(self) -> tuple[str, ...]:
        """Of a closed set of answers; empty: texts."""
        return tuple(answer.label for answer in self.manifest.answers) if self.manifest else ()

    @property
    def headers(self) -> dict[str, str]:
        """Which prompt and generation answered."""
        digest = {"x-softprompt-digest": f"sha256:{self.route.digest}"} if self.route.digest else {}
        return digest | {"x-softprompt-generation": str(self.route.snapshot.generation)}


def caller_of(request: Request) -> Caller:
    """Whoever the guard found."""
    caller = request.state.caller
    assert isinstance(caller, Caller), "the guard lets nobody through without"
    return caller


async def ask(node: Node, request: Request, model: str, user: str | None, *, conversation: bool = False) -> Asked:
    """The prompt that a request means, warm.

    Args:
        node: This one.
        request: Whose headers and caller count.
        model: What it asks for.
        user: Keeps to one prompt of a canary.
        conversation: Whether the bare base is asked for a conversation.

    Raises:
        UnknownPrompt, FingerprintMismatch: There is none that this caller may ask.
        ServiceUnavailable: It cannot be had now.
    """
    route = route_for(node, caller_of(request), model, user or request.headers.get(STICKY_HEADER, ""))
    warm = node.bank.get_if_warm(route.digest) if route.digest else None
    if route.digest and warm is None:
        warm = await run_in_threadpool(node.warm, route)
    template = warm.manifest.template if warm else CONVERSATION_TEMPLATE if conversation else "{text}"
    asked = Asked(route, warm, TextEncoder(node.text, template))
    facts = {"prompt": route.name, "digest": route.digest[:12], "generation": route.snapshot.generation}
    request.state.facts.update(facts)
    return asked


def route_for(node: Node, caller: Caller, model: str, sticky: str) -> Route:
    """Which prompt a name means for a caller; the bare base only by its own name, and only where the node has it."""
    if node.base_name and model == node.base_name:
        snapshot = node.follower.snapshot
        if not caller.may_ask(model):
            raise unknown_prompt(model, snapshot, names_on(snapshot, node.follower.base_fingerprint, caller.may_ask))
        return Route(model, "", snapshot)
    # Hashed before anything else sees it: who asks is nobody's business further down.
    key = sha256(sticky.encode("utf-8", "surrogatepass")).hexdigest() if sticky else ""
    return node.follower.route(model, may_ask=caller.may_ask, sticky=key)


async def tokens_of(node: Node, asked: Asked, rows: Sequence[dict[str, str]], param: str) -> list[tuple[int, ...]]:
    """Token ids of filled templates.

    Raises:
        BadParameter: One is empty, or has more tokens than the node or the base allows.
    """

    def encode() -> list[list[int]]:
        with _one_tokenizer:
            return asked.encoder.all_input_ids(rows)

    short = sum(len(value) for row in rows for value in row.values()) <= MOST_CHARACTERS_AT_ONCE
    ids = encode() if short else await run_in_threadpool(encode)
    most = room(node, asked, 0) - 1
    most = min(most, node.limits.max_input_tokens or most)
    longest = max(map(len, ids))
    if longest > most:
        raise BadParameter(
            param,
            "The input text is too long.",
            code="context_length_exceeded",
            expected=f"<= {most} tokens, template included",
            actual=f"{longest} tokens",
        )
    if not min(map(len, ids)):
        raise BadParameter(param, "The input text has no tokens.")
    return [tuple(row) for row in ids]


def room(node: Node, asked: Asked, num_input_tokens: int) -> int:
    """Tokens that the base's context has left behind a prompt and an input text."""
    num_prompt_tokens = asked.manifest.num_tokens if asked.manifest else 0
    return node.text.context_tokens - num_prompt_tokens - num_input_tokens


def new_tokens(node: Node, asked: Asked, ids: Sequence[tuple[int, ...]], wanted: int | None, param: str) -> list[int]:
    """Longest answer for each input text.

    Raises:
        BadParameter: More was asked for than there is room for.
    """
    rooms = [room(node, asked, len(row)) for row in ids]
    if wanted is None:
        usual = asked.manifest.max_new_tokens if asked.manifest else BARE_TOKENS
        return [max(1, min(usual, node.limits.max_new_tokens, left)) for left in rooms]
    most = min(node.limits.max_new_tokens, *rooms)
    if wanted > most:
        code = "context_length_exceeded" if most < node.limits.max_new_tokens else "invalid_value"
        raise BadParameter(param, "The answer may not become so long.", code=code, expected=f"<= {most}", actual=str(wanted))
    return [wanted] * len(ids)


def samplings(request: Drawing, num_rows: int) -> list[Sampling]:
    """How each of a request's rows is drawn: the first by the seed itself, the others by seeds that follow from it."""
    temperature = request.temperature or 0.0
    seed = request.seed if request.seed is not None else secrets.randbits(62)
    seeds = [seed, *(int.from_bytes(sha256(f"{seed}/{row}".encode()).digest()[:7], "big") for row in range(1, num_rows))]
    top_p = 1.0 if request.top_p is None else request.top_p
    return [Sampling(temperature=temperature, top_p=top_p, seed=seeds[row]) for row in range(num_rows)]


def chat_of(node: Node) -> RenderChat | None:
    """The base's chat template, if it has one."""
    try:
        return chat_renderer(node.text)
    except UnsupportedBaseModel:
        return None


@asynccontextmanager
async def places(node: Node, num_rows: int) -> AsyncIterator[None]:
    """Hold places for rows; see `Admission.places`.

    Raises:
        BadParameter: More rows than the node ever has places.
        Overloaded: There is no place now.
    """
    if num_rows > node.limits.max_rows:
        raise BadParameter("n", "More answers than this node writes at once.", expected=f"<= {node.limits.max_rows}")
    begun = monotonic()
    async with node.admission.places(num_rows):
        node.metrics.on_queued(monotonic() - begun)
        yield


async def unless_gone(request: Request, work: Callable[[], Any]) -> Any:
    """Do the work, and stop it if the client goes away meanwhile."""
    doing, gone = asyncio.ensure_future(work()), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait([doing, gone], return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGone
        return doing.result()
    finally:
        for task in (doing, gone):
            task.cancel()
        await asyncio.gather(doing, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
