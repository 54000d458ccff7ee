"""Verified prompts, warm: each digest is loaded, checked against the base and prepared once, within a bound of bytes.

A prompt is known by its digest and never by its name, so what a name means may change while rows of the old one are written:
they hold the prompt that they began with, whether the bank still keeps it or not.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass

import torch

from softprompt.artifact import Manifest, PromptFile
from softprompt.base_model import FrozenBase
from softprompt.engine.fit import fitting_prompt, of_deep_prompts
from softprompt.engine.head import Head
from softprompt.engine.predictor import Predictor
from softprompt.engine.strategy import Prefix, Strategy
from softprompt.engine.task import EncodedTask
from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.release.snapshot import Snapshot

MAX_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class WarmPrompt:
    """A prompt that can answer at once.

    Attributes:
        digest: Which one.
        manifest: What it says of itself; its tensor is not kept a second time.
        predictor: Answers rows; holds the prompt's keys and values.
        num_bytes: Memory that these hold.
    """

    digest: str
    manifest: Manifest
    predictor: Predictor
    num_bytes: int


@dataclass(frozen=True)
class BankNumbers:
    """What a bank holds, and what it did since it was made."""

    num_prompts: int
    num_bytes: int
    max_bytes: int
    num_pinned: int
    num_pinned_bytes: int
    num_hits: int
    """Asked for and warm."""
    num_loads: int
    """Asked for, not warm, loaded; requests that waited for such a load are hits."""
    num_failed_loads: int
    num_evictions: int


class PromptBank:
    """Warm prompts by digest; for any number of threads.

    What is kept never holds more than `max_bytes`: the least recently used are dropped, pinned ones never. A prompt that does
    not fit beside the pinned ones is prepared for whoever asks and not kept.

    Args:
        base: The base model that runs here.
        max_bytes: Bound of what is kept.
        strategy: Prepares every prompt; None: the fastest that is exact for its kind.
    """

    def __init__(self, base: FrozenBase, max_bytes: int = MAX_BYTES, strategy: Strategy | None = None) -> None:
        self._base, self._max_bytes, self._head, self._strategy = base, max_bytes, Head(base), strategy
        self._warm: OrderedDict[str, WarmPrompt] = OrderedDict()  # the least recently used first
        self._loads: dict[str, Future[WarmPrompt]] = {}
        self._pinned: frozenset[str] = frozenset()
        self._num_bytes = self._num_hits = self._num_loads = self._num_failed_loads = self._num_evictions = 0
        self._lock = threading.Lock()
        of_deep_prompts(base)  # so that the first deep prompt is warmed as fast as the others

    @property
    def numbers(self) -> BankNumbers:
        """What it holds and did, for whoever watches."""
        with self._lock:
            pinned = [self._warm[digest].num_bytes for digest in self._pinned]
            return BankNumbers(
                num_prompts=len(self._warm),
                num_bytes=self._num_bytes,
                max_bytes=self._max_bytes,
                num_pinned=len(pinned),
                num_pinned_bytes=sum(pinned),
                num_hits=self._num_hits,
                num_loads=self._num_loads,
                num_failed_loads=self._num_failed_loads,
                num_evictions=self._num_evictions,
            )

    def get_if_warm(self, digest: str) -> WarmPrompt | None:
        """A prompt that needs no loading, or None; never waits."""
        with self._lock:
            return self._use(digest)

    def is_warm(self, digest: str) -> bool:
        """Whether a prompt needs no loading; asking this is no use of it."""
        with self._lock:
            return digest in self._warm

    def get(self, digest: str, snapshot: Snapshot) -> WarmPrompt:
        """A prompt of a generation, loaded unless it is warm.

        Requests for one prompt wait for one load; loads of several prompts run at once. A load that failed is tried again by
        the next request.

        Raises:
            FingerprintMismatch: It was trained on another base.
            VerificationFailed: It is not what its digest says, cannot come from this base, or its template is tokenised otherwise
                here.
        """
        with self._lock:
            if warm := self._use(digest):
                return warm
            running = self._loads.get(digest)
            if running is None:
                mine = self._loads[digest] = Future()
                self._num_loads += 1
            else:
                self._num_hits += 1
        return running.result() if running else self._load(digest, snapshot, mine)

    def pin(self, digests: Iterable[str], snapshot: Snapshot) -> None:
        """Load these and keep them, instead of those that were pinned before; all or, where one cannot be had, nothing changes.

        Until the new ones are warm the old ones stay, so for a moment both may be in memory.

        Raises:
            InvalidRequest: Together they hold more than the bank may.
            FingerprintMismatch, VerificationFailed: As `get`.
        """
        wanted: dict[str, WarmPrompt] = {}
        for digest in dict.fromkeys(digests):
            wanted[digest] = self.get(digest, snapshot)
            num_bytes = sum(warm.num_bytes for warm in wanted.values())
            if num_bytes > self._max_bytes:
                raise InvalidRequest(
                    "The channel pins more prompts than this node may keep in memory.",
                    where=f"generation {snapshot.generation}, prompt {digest[:12]}",
                    expected=f"<= {self._max_bytes} bytes",
                    actual=f"{num_bytes} bytes with the first {len(wanted)} pinned prompts",
                    hint="Give the node more memory for prompts, or pin fewer.",
                )
        with self._lock:
            self._pinned = frozenset(wanted)
            for warm in wanted.values():
                self._keep(warm)

    def _use(self, digest: str) -> WarmPrompt | None:
        warm = self._warm.get(digest)
        if warm is not None:
            self._warm.move_to_end(digest)
            self._num_hits += 1
        return warm

    def _load(self, digest: str, snapshot: Snapshot, mine: "Future[WarmPrompt]") -> WarmPrompt:
        try:
            warm = warm_up(self._base, snapshot.load(digest), self._head, self._strategy)
        except BaseException as error:
            with self._lock:
                del self._loads[digest]
                self._num_failed_loads += 1
            mine.set_exception(error)
            raise
        with self._lock:
            del self._loads[digest]
            self._keep(warm)
        mine.set_result(warm)
        return warm

    def _keep(self, warm: WarmPrompt) -> None:
        """Put a prompt among the warm ones, and drop what does not fit any more: the least recently used that is not pinned."""
        if warm.digest not in self._warm:
            self._warm[warm.digest] = warm
            self._num_bytes += warm.num_bytes
        for digest in list(self._warm) if self._num_bytes > self._max_bytes else ():
            if digest not in self._pinned and self._num_bytes > self._max_bytes:
                self._num_bytes -= self._warm.pop(digest).num_bytes
                self._num_evictions += 1


def warm_up(base: FrozenBase, file: PromptFile, head: Head | None = None, strategy: Strategy | None = None) -> WarmPrompt:
    """Check that a prompt fits this base and this tokenizer, and compute its keys and values.

    Args:
        base: The base model that runs here.
        file: A verified prompt file.
        head: The base's output head where it was made before.
        strategy: Prepares the prompt; None: the fastest that is exact for its kind.

    Raises:
        FingerprintMismatch: It was trained on another base.
        VerificationFailed: Its numbers cannot come from this base, or its template gives other tokens here than where it was
            trained.
    """
    manifest, digest, soft = file.manifest, file.digest, fitting_prompt(base, file)
    task = EncodedTask.of_manifest(base.text, manifest)
    for example in manifest.template_examples:
        actual = tuple(task.encoder.input_ids(example.values))
        if actual != example.token_ids:
            raise VerificationFailed(
                "This machine tokenises the prompt's template otherwise than where it was trained.",
                where=f"prompt {digest[:12]}, example {example.values}",
                expected=str(list(example.token_ids)),
                actual=str(list(actual)),
                hint="Use the same versions of transformers and tokenizers.",
            )
    predictor = Predictor(base, task, soft, max_new_tokens=manifest.max_new_tokens, head=head, strategy=strategy)
    predictor.prefix = in_one_piece(predictor.prefix)
    return WarmPrompt(digest, manifest, predictor, predictor.prefix.num_bytes)


@torch.no_grad()
def in_one_piece(prefix: Prefix) -> Prefix:
    """The same keys and values in one piece of memory: many small ones, made among temporary ones, leave gaps between them."""
    tensors = prefix.tensors
    is_one = len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
    if is_one or len({(tensor.shape, tensor.dtype) for tensor in tensors}) != 1:
        return prefix
    return prefix.with_tensors(list(torch.stack(tensors)))
