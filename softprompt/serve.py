"""One serving node on this machine: a base model, a channel, an HTTP port."""

import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from softprompt.base_model import FrozenBase, load_base_model
from softprompt.deployment import channel_reader
from softprompt.errors import InvalidRequest
from softprompt.fetch import fetch_base
from softprompt.numerics import FORMATS, UNQUANTISED, Numerics
from softprompt.release.s3_client import parse_s3_uri
from softprompt.settings import Settings

if TYPE_CHECKING:
    from softprompt.serving.jobs import Engine
    from softprompt.serving.limits import Limits
    from softprompt.serving.node import Node

KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep a connection that is idle, so that none is closed in the moment in which a request is sent on it."""

SWITCH_SECONDS = 0.0005
"""How long a thread of Python may make the engine wait after each of its operations. Python's own 5 ms slows writing to an eighth
while a generation of a thousand prompts is looked at."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What one node does; the flags of `softprompt serve`."""

    channel: str
    base_uri: str
    dtype: Numerics = "float32"
    device: str = "cpu"
    host: str = "127.0.0.1"
    """Whoever reaches it may ask, unless there are tokens: anything but loopback is for a pod behind its policies."""
    port: int = 8000
    tokens: Path | None = None
    """File of bearer tokens; None: nobody is asked for one."""
    bare_base: str = ""
    """What the bare base is asked by; empty: it cannot be asked."""
    poll_seconds: float = 5.0
    prompt_bytes: int = 512 * 1024 * 1024
    """Memory for warm prompts."""
    engine: Literal["batch", "vllm"] = "batch"
    """`vllm`: shallow prompts and the bare base only; see `softprompt.serving.vllm_backend`."""
    limits: "Limits | None" = field(default=None)
    linger_seconds: float = 0.0
    """How long it goes on answering after SIGTERM, before it takes no new connections."""
    json_logs: bool = False


def serve_channel(settings: Settings, options: ServeOptions) -> None:
    """Serve until SIGTERM (and `linger_seconds` longer) or Ctrl-C: then no new connections, requests end, the process ends.

    Raises:
        InvalidRequest: The `serve` extra is not installed, or an option is wrong.
        StoreUnavailable, VerificationFailed: There is nothing that may be served.
    """
    try:
        import uvicorn

        from softprompt.serving.http.app import create_app
        from softprompt.serving.http.server import LingeringServer
    except ImportError as error:
        raise InvalidRequest(
            "Serving needs packages that are not installed.", actual=str(error), hint="pip install 'softprompt[serve]'"
        ) from None
    from softprompt.serving.logs import log_to_standard_error
    from softprompt.serving.tracing import Tracing

    sys.setswitchinterval(SWITCH_SECONDS)
    log_to_standard_error(as_json=options.json_logs)
    tracing = Tracing.from_environment()
    with running_node(settings, options) as node:
        config = uvicorn.Config(
            create_app(node, tracing),
            host=options.host,
            port=options.port,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(node.limits.drain_seconds)),
        )
        with _signals_end_only_the_server():
            server = LingeringServer(config, options.linger_seconds)
            server.run()
        if not server.started:
            raise InvalidRequest("The port cannot be listened on.", where=f"{options.host}:{options.port}", hint="Use --port.")


@contextmanager
def running_node(settings: Settings, options: ServeOptions) -> Iterator["Node"]:
    """A node whose engine runs and whose pinned prompts are warm.

    Raises:
        InvalidRequest, StoreUnavailable, VerificationFailed: There is nothing that may be served here.
    """
    from softprompt.engine.concatenate import Concatenate
    from softprompt.serving.access import Access
    from softprompt.serving.bank import PromptBank
    from softprompt.serving.follower import Follower
    from softprompt.serving.limits import Limits
    from softprompt.serving.metrics import Metrics
    from softprompt.serving.node import Node, check_base_name

    _check_engine(options)
    access = Access(options.tokens, check_base_name(options.bare_base))
    directory = fetch_base(options.base_uri)
    base = load_base_model(directory, dtype=options.dtype, device=options.device)
    strategy = Concatenate(base) if options.engine == "vllm" else None
    bank, metrics = PromptBank(base, options.prompt_bytes, strategy=strategy), Metrics()
    reader = channel_reader(settings, options.channel, base_fingerprint=base.fingerprint)
    with started_engine(options, directory, base) as engine:
        follower = Follower(reader, base.fingerprint, numerics=options.dtype, pin=bank.pin, on_alarms=metrics.on_alarms)
        yield Node(
            text=base.text,
            follower=follower,
            bank=bank,
            engine=engine,
            access=access,
            limits=options.limits or Limits(),
            metrics=metrics,
            base_name=options.bare_base,
            poll_seconds=options.poll_seconds,
        )


def _check_engine(options: ServeOptions) -> None:
    if options.engine == "vllm" and FORMATS[options.dtype].quantised:
        raise InvalidRequest(
            "vLLM quantises in ways of its own, with which no prompt of this channel was measured.",
            where="--engine vllm",
            expected=" or ".join(UNQUANTISED),
            actual=f"--dtype {options.dtype}",
            hint="Serve with --engine batch, or in another number format that the channel allows.",
        )


def started_engine(options: ServeOptions, directory: Path, base: FrozenBase) -> AbstractContextManager["Engine"]:
    """What writes on a node: softprompt's own engine, or vLLM over the same directory.

    Raises:
        InvalidRequest: vLLM is asked for and not installed.
    """
    if options.engine == "batch":
        from softprompt.serving.scheduler import BatchEngine

        return BatchEngine(base)
    from softprompt.serving.vllm_backend import VllmEngine
    from softprompt.serving.vllm_calls import start_vllm

    rows = {"max_num_seqs": options.limits.max_rows} if options.limits else {}
    return VllmEngine(base, start_vllm(directory, dtype=options.dtype, **rows))


def split_channel(channel: str, settings: Settings) -> tuple[str, Settings]:
    """`NAME`, or `s3://BUCKET/PREFIX#NAME`, as a channel's name and the settings of the store it lies in.

    Raises:
        InvalidRequest: Neither of the two.
    """
    if "://" not in channel:
        return channel, settings
    store, _, name = channel.partition("#")
    parse_s3_uri(store)
    if not name:
        raise InvalidRequest(
            "The channel's name is missing.",
            where=channel,
            expected="s3://BUCKET/PREFIX#CHANNEL",
            hint=f"{store}#production, say.",
        )
    return name, replace(settings, store=store, uses_embedded_store=False)


@contextmanager
def _signals_end_only_the_server() -> Iterator[None]:
    """Uvicorn raises the signal again that ended it, which would end the process before the engine and the store are left."""
    before = {kind: signal.signal(kind, lambda *_: None) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def is_watched() -> bool:
    """Whether a person reads what this process says."""
    return sys.stderr.isatty()
