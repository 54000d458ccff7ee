"""`/v1/models`: what a caller may ask, and nothing else; `/v1/status`: the same with the node's state, for the page."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from softprompt.release.snapshot import Snapshot
from softprompt.release.statement import parse_time
from softprompt.serving.access import Caller
from softprompt.serving.http.asking import caller_of
from softprompt.serving.node import Node
from softprompt.serving.routing import names_on, unknown_prompt


class Model(BaseModel):
    """One name that can be asked."""

    id: str
    object: str = "model"
    created: int
    """When the active generation was signed."""
    owned_by: str = "softprompt"
    digests: dict[str, int]
    """Digest -> weight of the prompts that answer by this name; empty: the bare base."""
    pinnable: list[str] = []
    """Further digests that `NAME@sha256:DIGEST` may ask for."""


class Models(BaseModel):
    """All of them."""

    object: str = "list"
    data: list[Model]


class PromptStatus(Model):
    """How one name does."""

    num_answers: int
    mean_seconds_to_first_token: float
    mean_tokens_per_second: float


class Status(BaseModel):
    """How the node does."""

    channel: str
    generation: int
    created: str
    expires: str
    stale: bool
    base: str
    """Fingerprint of the base model."""
    alarms: list[str]
    """For operators."""
    prompts: list[PromptStatus]


def catalogue_router(node: Node) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/v1/models", response_model=Models)
    async def list_models(http: Request) -> dict[str, Any]:
        """What this caller may ask."""
        snapshot = node.follower.snapshot
        return {"data": _models(node, snapshot, caller_of(http))}

    @router.get("/v1/models/{model:path}", response_model=Model)
    async def retrieve_model(model: str, http: Request) -> dict[str, Any]:
        """One of them."""
        snapshot, caller = node.follower.snapshot, caller_of(http)
        found = _models(node, snapshot, caller)
        by_name = {entry["id"]: entry for entry in found}
        if model not in by_name:
            names = names_on(snapshot, node.follower.base_fingerprint, caller.may_ask)
            raise unknown_prompt(model, snapshot, names)
        return by_name[model]

    @router.get("/v1/status", response_model=Status)
    async def status(http: Request) -> dict[str, Any]:
        """How the node and its prompts do, as far as this caller may ask them."""
        snapshot, caller = node.follower.snapshot, caller_of(http)
        return {
            "channel": snapshot.statement.channel,
            "generation": snapshot.generation,
            "created": snapshot.created,
            "expires": snapshot.expires,
            "stale": snapshot.stale,
            "base": node.follower.base_fingerprint,
            "alarms": [str(alarm) for alarm in snapshot.alarms] if caller.is_operator else [],
            "prompts": [entry | vars(node.metrics.numbers(entry["id"])) for entry in _models(node, snapshot, caller)],
        }

    return router


def _models(node: Node, snapshot: Snapshot, caller: Caller) -> list[dict[str, Any]]:
    base, created = node.follower.base_fingerprint, int(parse_time(snapshot.created))
    found = []
    for name in names_on(snapshot, base, caller.may_ask):
        served = snapshot.prompts[name]
        digests = {share.prompt: share.weight for share in served.bases[base]}
        found.append({"id": name, "created": created, "digests": digests, "pinnable": list(served.pinnable)})
    if node.base_name and caller.may_ask(node.base_name):
        found.append({"id": node.base_name, "created": created, "digests": {}})
    return found
