"""A channel that can state anything, a node that follows it, and a real HTTP server around the node."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import uvicorn

from softprompt.artifact import Answer, PromptFile
from softprompt.base_model import FrozenBase
from softprompt.engine.encoding import TextEncoder
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.release.blobs import prompt_blobs
from softprompt.release.care.init_channel import init_channel, publishing_key_file
from softprompt.release.channel import ChannelLog
from softprompt.release.planning.plan import Plan
from softprompt.release.publisher import Publisher
from softprompt.release.reader import Reader
from softprompt.release.statement import Approval, ChannelState, Served, Share
from softprompt.release.store import ObjectStore
from softprompt.release.trust import load_signer, load_trust_root
from softprompt.serving.access import Access
from softprompt.serving.bank import PromptBank
from softprompt.serving.follower import Follower
from softprompt.serving.http.app import create_app
from softprompt.serving.metrics import Metrics
from softprompt.serving.node import Node
from softprompt.serving.scheduler import BatchEngine

TEMPLATE = "Thing: {text}\nColour:"
LABELS = ("blue", "red", "green")


@dataclass
class Name:
    """What a name should mean: prompts with weights, and the rest."""

    shares: Sequence[tuple[PromptFile, int]]
    shadow: Sequence[PromptFile] = ()
    pinnable: Sequence[PromptFile] = ()
    pinned: bool = False

    @property
    def files(self) -> list[PromptFile]:
        return [*(file for file, _ in self.shares), *self.shadow, *self.pinnable]


def name(*files: PromptFile, **options) -> Name:
    """Prompts of equal weight."""
    return Name([(file, 1) for file in files], **options)


class StatedChannel:
    """A channel whose owner signs whatever a test wants to be served."""

    def __init__(self, folder: Path, store: ObjectStore, base: FrozenBase, clock=time.time) -> None:
        self.folder, self.store, self.base, self.clock = folder, store, base, clock
        init_channel("live", store=store, keys_dir=folder / "keys", trust_root=self.trust_root, clock=clock)

    @property
    def trust_root(self) -> Path:
        return self.folder / "root.json"

    @property
    def log(self) -> ChannelLog:
        return ChannelLog(self.store, "live", load_trust_root(self.trust_root))

    def state(self, names: Mapping[str, Name], *, revoked=(), numerics=("float32",), verify: bool = True) -> int:
        """Publish exactly this; the generation."""
        files = {file.digest: file for found in names.values() for file in found.files}
        approvals = {
            digest: Approval(prompt=digest, verdict="passed", numerics="float32", model_version="1", evidence={})
            for digest in files
        }
        served = {
            key: Served(
                bases={self.base.fingerprint: tuple(Share(prompt=file.digest, weight=weight) for file, weight in found.shares)},
                shadow=tuple(file.digest for file in found.shadow),
                pinnable=tuple(file.digest for file in found.pinnable),
                pinned=found.pinned,
            )
            for key, found in names.items()
        }
        state = ChannelState(prompts=served, approvals=approvals, revoked=tuple(revoked), numerics=tuple(numerics))
        return self.publish(state, {key: value for file in files.values() for key, value in prompt_blobs(file).items()})

    def publish(self, state: ChannelState, blobs: Mapping[str, bytes]) -> int:
        """Publish a state as it is."""
        signer = load_signer(publishing_key_file(self.folder / "keys", "live"))
        publisher = Publisher(log=self.log, signer=signer, state_dir=self.folder / "journal", clock=self.clock)
        return publisher.publish(lambda _: Plan(outcome="change", state=state), blobs=blobs).generation

    def reader(self, node: str = "node", store: ObjectStore | None = None) -> Reader:
        return Reader(
            store=store or self.store,
            channel="live",
            trust=load_trust_root(self.trust_root),
            state_dir=self.folder / node,
            base_fingerprint=self.base.fingerprint,
            clock=self.clock,
        )

    def prompt(self, seed: int = 0, *, task: str = "generation", template: str = TEMPLATE, scale: float = 0.5, **changes):
        """A prompt of the channel's base."""
        return make_prompt(self.base, seed, task=task, template=template, scale=scale, **changes)


def make_prompt(
    base: FrozenBase, seed: int, *, task: str, template: str, scale: float = 0.5, values=None, **changes
) -> PromptFile:
    """A prompt of these values; a random shallow one if there are none."""
    if values is None:
        values = np.random.default_rng(seed).normal(scale=scale, size=(4, base.hidden_size)).astype(np.float32)
    fields = {
        "task": task,
        "template": template,
        "template_examples": TextEncoder(base.text, template).examples(),
        "answers": tuple(Answer(label=label, text=f" {label}") for label in LABELS) if task == "classification" else (),
        "max_new_tokens": 8,
        "base_fingerprint": base.fingerprint,
    }
    return PromptFile.build(values, **(fields | changes))


def alone(base: FrozenBase, prompt: PromptFile, values: dict[str, str], max_new_tokens: int = 8) -> str:
    """What `evaluate_prompt` would say this prompt answers."""
    task = EncodedTask.of_manifest(base.text, prompt.manifest)
    soft = SoftPrompt(torch.from_numpy(prompt.values))
    return Predictor(base, task, soft, max_new_tokens=max_new_tokens).predict([values])[0].output


@contextlib.contextmanager
def node_of(
    channel: StatedChannel,
    *,
    reader: Reader | None = None,
    tokens: Path | None = None,
    engine=None,
    bank=None,
    numerics="float32",
    **options,
) -> Iterator[Node]:
    """A node whose engine runs."""
    metrics, bank = Metrics(), bank or PromptBank(channel.base)
    with contextlib.ExitStack() as stack:
        engine = engine or stack.enter_context(BatchEngine(channel.base))
        follower = Follower(
            reader or channel.reader(), channel.base.fingerprint, numerics=numerics, pin=bank.pin, on_alarms=metrics.on_alarms
        )
        access = Access(tokens, options.get("base_name", ""))
        settings = {"poll_seconds": 3600.0} | options
        yield Node(
            text=channel.base.text, follower=follower, bank=bank, engine=engine, access=access, metrics=metrics, **settings
        )


@contextlib.contextmanager
def server_of(node: Node, **config) -> Iterator[str]:
    """URL of a real server around a node."""
    options = {"host": "127.0.0.1", "port": 0, "log_level": "warning", "access_log": False}
    options |= {"timeout_keep_alive": 75, "timeout_graceful_shutdown": 10}
    server = uvicorn.Server(uvicorn.Config(create_app(node), **(options | config)))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "the server ended"
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive(), "the server does not end"


def with_chat_template(base: FrozenBase) -> FrozenBase:
    """The same base with a tokenizer that knows how conversations are written."""
    import copy

    tokenizer = copy.deepcopy(base.text.tokenizer)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role not in ('system', 'user', 'assistant') %}{{ raise_exception('no such role') }}{% endif %}"
        "[{{ message.role }}] {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    return replace(base, text=replace(base.text, tokenizer=tokenizer))
