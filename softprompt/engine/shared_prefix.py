"""The shared-prefix strategy for causal models: the prompt's keys and values do not depend on the text that follows.

So they are computed once a step with batch 1 and expanded over the rows through the cache, gradients flowing back through the
expansion. A deep prompt *is* these keys and values (Li & Liang 2021) and has nothing to compute. Position ids of the text
start at `P`. Sliding windows are the cache's and the mask's own business: `DynamicCache(config=...)` keeps what each layer needs.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from softprompt.base_model import FrozenBase
from softprompt.engine.batches import Batch
from softprompt.engine.head import inner_model
from softprompt.engine.layers import checkpointed, decoder_layers, feed_forward_only_at
from softprompt.engine.prompts import SoftPrompt

ROOM_TOKENS = 32
"""By which the room of an answer that is being written grows."""


@dataclass(frozen=True)
class PrefixCache:
    """A prompt's keys and values, batch 1.

    Attributes:
        layers: One (keys, values) pair a layer, each `[1, N, P, D]`; empty for the bare base.
        num_tokens: Prompt tokens `P`.
    """

    layers: list[tuple[Tensor, Tensor]]
    num_tokens: int

    @property
    def num_bytes(self) -> int:
        """Memory it holds."""
        return sum(part.nbytes for part in self.tensors)

    @property
    def tensors(self) -> list[Tensor]:
        """Keys, then values, layer by layer."""
        return [part for pair in self.layers for part in pair]

    def with_tensors(self, tensors: list[Tensor]) -> "PrefixCache":
        """The same with other keys and values."""
        return PrefixCache(list(zip(tensors[::2], tensors[1::2], strict=True)), self.num_tokens)


class SharedPrefix:
    """Runs a causal base behind a cached prompt; see `Strategy`.

    Args:
        base: The base model.
        activation_checkpointing: Training computes each layer's activations twice instead of keeping them.
    """

    name = "shared_prefix"

    def __init__(self, base: FrozenBase, *, activation_checkpointing: bool = False) -> None:
        self.base = base
        self._layers = decoder_layers(base)
        self._activation_checkpointing = activation_checkpointing
        self._inner = inner_model(base)
        self._config = base.model.config.get_text_config(decoder=True)

    @staticmethod
    def refusal(base: FrozenBase) -> str | None:
        """Why this strategy would not be exact for a base, or None: state-space and recurrent models keep no such cache."""
        probe = DynamicCache(config=base.model.config.get_text_config(decoder=True))
        kinds = {type(layer).__name__ for layer in probe.layers}
        unknown = kinds - {"DynamicLayer", "DynamicSlidingWindowLayer"}
        return f"cache layers of kind {', '.join(sorted(unknown))}" if unknown else None

    def prefix(self, prompt: SoftPrompt | None) -> PrefixCache:
        """Keys and values of a prompt, gradients attached."""
        if prompt is None:
            return PrefixCache([], 0)
        if prompt.kind == "deep":
            dtype = self.base.model.dtype
            return PrefixCache(
                [(keys.to(dtype), values.to(dtype)) for keys, values in prompt.keys_and_values()], prompt.num_tokens
            )
        # A cache without a config keeps every position of every layer; the windows are cut when the rows are expanded.
        cache: Any = DynamicCache()
        vectors = prompt.values[None].to(self.base.model.dtype)
        # Only in training, which is alone with the model: a serving node's other threads must not meet a changed layer.
        nowhere = torch.zeros(vectors.shape[:2], dtype=torch.bool, device=vectors.device)
        with feed_forward_only_at(self._layers, nowhere) if torch.is_grad_enabled() else nullcontext():
            self._inner(inputs_embeds=vectors, past_key_values=cache, use_cache=True)
        return PrefixCache([(layer.keys, layer.values) for layer in cache.layers], prompt.num_tokens)

    def hidden(self, prefix: PrefixCache, batch: Batch) -> Tensor:
        """Hidden states of the scored positions, `[M, H]`."""
        scored = torch.zeros_like(batch.input_mask)
        scored[batch.rows, batch.positions] = True
        with self._saving(scored):
            cache = self._read_only(prefix, batch.num_rows)
            hidden = self._forward(batch.input_ids, cache, prefix.num_tokens, batch.input_mask)
        return hidden[batch.rows, batch.positions]

    @property
    def pads(self) -> bool:
        """Sliding windows count places, padding included, so rows that pass through one must be of equal length."""
        return all(type(layer).__name__ == "DynamicLayer" for layer in DynamicCache(config=self._config).layers)

    def start(self, prefix: PrefixCache, input_ids: Tensor, lengths: Tensor | None = None) -> "tuple[Tensor, CachedRows]":
        """Read input texts `[B, T]`, right-padded where they have `lengths` `[B]`; returns `[B, H]` and the rows' state."""
        num_rows, width = input_ids.shape
        cache = _with_room(self._expand(prefix, num_rows))
        if lengths is None or bool((lengths == width).all()):
            hidden = self._forward(input_ids, cache, prefix.num_tokens)
            ends = torch.full((num_rows,), prefix.num_tokens + width, device=input_ids.device)
            return hidden[:, -1], CachedRows(self, cache, ends, None)
        mask = torch.arange(width, device=input_ids.device) < lengths[:, None]
        hidden = self._forward(input_ids, cache, prefix.num_tokens, mask)
        seen = torch.cat([mask.new_ones(num_rows, prefix.num_tokens), mask], dim=1)
        last = hidden[torch.arange(num_rows, device=input_ids.device), lengths - 1]
        return last, CachedRows(self, cache, prefix.num_tokens + lengths, seen)

    def _forward(self, ids: Tensor, cache: DynamicCache, start: int, mask: Tensor | None = None) -> Tensor:
        """Hidden states `[B, T, H]` of tokens whose positions begin at `start`; `mask` marks right padding."""
        if mask is not None:
            mask = None if bool(mask.all()) else torch.cat([mask.new_ones(len(ids), start), mask], dim=1)
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)[None]
        return self._at(ids, cache, positions, mask)

    def _at(self, ids: Tensor, cache: DynamicCache, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Hidden states `[B, T, H]` of tokens at some positions `[B or 1, T]`; `mask` says what is no padding, cache included."""
        hidden: Tensor = self._inner(
            input_ids=ids,
            attention_mask=None if mask is None else mask.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return hidden

    @contextmanager
    def _saving(self, scored: Tensor) -> Iterator[None]:
        """Compute and keep only what a training step needs; `scored` `[B, T]` marks the hidden states that are read."""
        checkpointing = checkpointed(self._layers) if self._activation_checkpointing else nullcontext()
        with feed_forward_only_at(self._layers, scored), checkpointing:
            yield

    def _read_only(self, prefix: PrefixCache, num_rows: int) -> DynamicCache:
        """The prompt for `num_rows` rows, behind which layers put keys and values without adding them to the cache.

        A training step reads each text once, so nothing has to be remembered, and a layer that is computed again finds what
        it found the first time.
        """
        cache: Any = self._expand(prefix, num_rows)
        for layer in cache.layers:
            layer.update = MethodType(_behind_prompt if layer.is_initialized else _alone, layer)
        read_only: DynamicCache = cache
        return read_only

    def _expand(self, prefix: PrefixCache, num_rows: int) -> DynamicCache:
        """A cache in which every row begins with the prompt, without copying it."""
        cache: Any = DynamicCache(config=self._config)
        for layer, (keys, values) in zip(cache.layers, prefix.layers, strict=False):
            layer.lazy_initialization(keys, values)
            window = getattr(layer, "sliding_window", None)
            kept = slice(-window + 1, None) if window else slice(None)
            layer.keys = expand_rows(keys, num_rows)[:, :, kept]
            layer.values = expand_rows(values, num_rows)[:, :, kept]
            if window:
                layer.cumulative_length = prefix.num_tokens
        expanded: DynamicCache = cache
        return expanded


class CachedRows:
    """Rows in the middle of an answer, as their cache; see `State`.

    Args:
        strategy: Whose rows these are.
        cache: Keys and values of everything read so far, padding included.
        ends: `[B]`, each row's next position.
        seen: `[B, places of the cache]` bool, False on padding; None: there is none.
    """

    def __init__(self, strategy: SharedPrefix, cache: DynamicCache, ends: Tensor, seen: Tensor | None) -> None:
        self._strategy, self._cache, self._ends, self._seen = strategy, cache, ends, seen

    def extend(self, token_ids: Tensor) -> Tensor:
        """Feed tokens `[B, A]`; returns `[B, A, H]`."""
        if self._seen is not None:
            self._seen = torch.cat([self._seen, torch.ones_like(token_ids, dtype=torch.bool)], dim=1)
        positions = self._ends[:, None] + torch.arange(token_ids.shape[1], device=token_ids.device)
        self._ends = self._ends + token_ids.shape[1]
        return self._strategy._at(token_ids, self._cache, positions, self._seen)

    def repeat(self, times: int) -> "CachedRows":
        """Each row `times` times, side by side; this state stays as it is."""
        cache = _copy(self._cache)
        cache.batch_repeat_interleave(times)
        seen = None if self._seen is None else self._seen.repeat_interleave(times, 0)
        return CachedRows(self._strategy, cache, self._ends.repeat_interleave(times), seen)

    def keep(self, rows: Tensor) -> "CachedRows":
        """Some of the rows; this state stays as it is."""
        cache = _copy(self._cache)
        cache.batch_select_indices(rows)
        return CachedRows(self._strategy, cache, self._ends[rows], None if self._seen is None else self._seen[rows])


def _copy(cache: DynamicCache) -> DynamicCache:
    """A cache that shares its tensors; whoever changes one of the two puts new tensors in their places."""
    copied: Any = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in copied.layers]
    return _with_room(copied)


def _with_room(cache: Any) -> DynamicCache:
    """Let a cache grow in room of its own, where nothing has to flow back through it."""
    for layer in cache.layers:
        if type(layer).__name__ == "DynamicLayer" and not torch.is_grad_enabled():
            layer.room = None
            layer.update = MethodType(_into_room, layer)
    grown: DynamicCache = cache
    return grown


def _into_room(layer: Any, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
    """Keys and values behind those that are there, which are copied for every so many tokens and not for each."""
    used = layer.keys.shape[-2] if layer.is_initialized else 0
    needed = used + keys.shape[-2]
    if layer.room is None or layer.room[0].shape[-2] < needed:
        layer.room = [new.new_empty(*new.shape[:-2], needed + ROOM_TOKENS, new.shape[-1]) for new in (keys, values)]
        if used:
            layer.room[0][:, :, :used], layer.room[1][:, :, :used] = layer.keys, layer.values
        layer.lazy_initialization(keys, values)
    for room, new in zip(layer.room, (keys, values), strict=True):
        room[:, :, used:needed] = new
    layer.keys, layer.values = (room[:, :, :needed] for room in layer.room)
    return layer.keys, layer.values


def _behind_prompt(layer: Any, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
    return torch.cat([layer.keys, keys], dim=-2), torch.cat([layer.values, values], dim=-2)


def _alone(_: Any, keys: Tensor, values: Tensor, *__: Any, **___: Any) -> tuple[Tensor, Tensor]:
    return keys, values


def expand_rows(shared: Tensor, num_rows: int) -> Tensor:
    """`[1, N, P, D]` to `[B, N, P, D]` without a copy; the gradient's sum over rows is taken in float32."""
    if shared.dtype == torch.float32 or not shared.requires_grad:
        return shared.expand(num_rows, -1, -1, -1)
    return shared.float().expand(num_rows, -1, -1, -1).to(shared.dtype)
