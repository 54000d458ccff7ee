"""Continuous batching: rows of many prompts in one cache, which they join and leave between steps.

Each row has a slot: its prompt's keys and values, then those of its text, one place after the other, so a place *is* a position.
Prompts of every length and kind, and the bare base, then differ only in how many places a row has when it joins; what a row may
see is a comparison of places with its own position, sliding windows included, and padding is never seen. Rows that join are
read together, padded on the right; padding is not stored.

The base runs as it is, through the cache's own interface. Whether that is exact is asked of the model itself when the batch is
made: what it gives for ragged rows must be what it gives for each row alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin

from softprompt.base_model import FrozenBase
from softprompt.engine.batches import pad
from softprompt.engine.head import PROBE_TOLERANCE, inner_model
from softprompt.engine.shared_prefix import PrefixCache, SharedPrefix
from softprompt.errors import UnsupportedBaseModel
from softprompt.serving.rows import Row

ROOM_PLACES = 64
"""Slots grow by multiples of this."""


@dataclass(frozen=True)
class _Where:
    """What one forward reads and writes: slots `first` to `first + count`, their first `width` places."""

    first: int
    count: int
    width: int
    slots: Tensor
    places: Tensor
    is_text: Tensor | None
    """`[count, T]`, False on padding; None: there is none. `slots` and `places` name each text token's, in this order."""


class _SlotLayer(CacheLayerMixin):
    """One layer's keys and values of all rows.

    Args:
        keys, values: As the model makes them, `[1, N, T, D]`.

    Attributes:
        rooms: Keys, then values, each `[slots, N, places, D]`.
        where: What the next forward reads and writes.
    """

    where: _Where

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # Zeros, never empty memory: what a mask hides is multiplied by 0, and 0 times NaN is NaN.
        self.rooms = [like.new_zeros(0, like.shape[1], 0, like.shape[3]) for like in (keys, values)]
        self.is_initialized = True

    @property
    def num_bytes(self) -> int:
        """Memory it holds."""
        return sum(room.nbytes for room in self.rooms)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """It is there from the beginning."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store what was read in its rows' places, and give these rows' keys and values."""
        where = self.where
        for room, new in zip(self.rooms, (key_states, value_states), strict=True):
            rows = new.transpose(1, 2)
            room[where.slots, :, where.places] = rows.flatten(0, 1) if where.is_text is None else rows[where.is_text]
        part = slice(where.first, where.first + where.count)
        return self.rooms[0][part, :, : where.width], self.rooms[1][part, :, : where.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Masks are ours."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Positions are ours."""
        return 0

    def get_max_length(self) -> int:
        """It grows."""
        return -1

    def resize(self, num_slots: int, num_places: int, num_kept: int) -> None:
        """Other room for the same first `num_kept` rows."""
        for index, old in enumerate(self.rooms):
            new = old.new_zeros(num_slots, old.shape[1], num_places, old.shape[3])
            width = min(num_places, old.shape[2])
            new[:num_kept, :, :width] = old[:num_kept, :, :width]
            self.rooms[index] = new


class SlotBatch:
    """Rows of one causal base that are written together.

    Args:
        base: The base model.
        max_rows: Most rows at once.
        max_bytes: Most memory for keys and values.

    Attributes:
        rows: In the order of their slots.

    Raises:
        UnsupportedBaseModel: It would not be exact for this base.
    """

    def __init__(self, base: FrozenBase, max_rows: int, max_bytes: int) -> None:
        self._base, self._max_rows, self._max_bytes = base, max_rows, max_bytes
        self._inner = inner_model(base)
        self._adds_mask = base.model.config._attn_implementation == "eager"  # the others choose by it
        self.rows: list[Row] = []
        if reason := _structural_refusal(base):
            raise _refused(base, reason)
        self._windows = _windows(base)
        try:
            self._check()
        except UnsupportedBaseModel:
            raise
        except Exception as error:  # noqa: BLE001  # an unknown architecture may object in any way
            raise _refused(base, f"{type(error).__name__}: {error}") from None

    @property
    def num_bytes(self) -> int:
        """Memory that keys and values have now."""
        return sum(layer.num_bytes for layer in self._layers)

    def has_room(self, rows: Sequence[Row]) -> bool:
        """Whether these rows can join and be written to their ends within the bounds."""
        places = max(row.most_places for row in (*self.rows, *rows))
        count = len(self.rows) + len(rows)
        return count <= self._max_rows and count * places * self._place_bytes <= self._max_bytes

    def join(self, rows: Sequence[Row]) -> Tensor:
        """Read rows' texts behind their prompts; returns the hidden states `[b, H]` that predict their first tokens."""
        first = len(self.rows)
        self._reserve(first + len(rows), max(row.num_read for row in rows))
        for slot, row in enumerate(rows, first):
            self._put_prompt(slot, row.prefix)
        hidden = self._forward(first, [row.job.token_ids for row in rows], [row.prefix.num_tokens for row in rows])
        self.rows += rows
        return hidden

    def step(self) -> Tensor:
        """Every row reads its newest token; returns `[B, H]`."""
        starts = [row.position for row in self.rows]
        self._reserve(len(self.rows), max(starts) + 1)
        hidden = self._forward(0, [(row.last_token,) for row in self.rows], starts)
        for row in self.rows:
            row.position += 1
        return hidden

    def leave(self, indices: Sequence[int], *, broken: Sequence[int] = ()) -> None:
        """Take rows out, the last rows moving into their slots; `broken` ones leave nothing that could spoil another."""
        for index in sorted(indices, reverse=True):
            last = len(self.rows) - 1
            used = self.rows[last].position
            for room in self._rooms if index in broken else ():
                room[index] = 0
            for room in self._rooms if index != last else ():
                room[index, :, :used] = room[last, :, :used]
            self.rows[index] = self.rows[last]
            self.rows.pop()

    def clear(self) -> None:
        """Take all rows out and free their memory."""
        self.rows = []
        for layer in self._layers:
            layer.resize(0, 0, 0)

    @property
    def _rooms(self) -> list[Tensor]:
        """Keys, then values, layer by layer."""
        return [room for layer in self._layers for room in layer.rooms]

    def _reserve(self, num_slots: int, num_places: int) -> None:
        old_slots, _, old_places, _ = self._layers[0].rooms[0].shape
        if num_slots <= old_slots and num_places <= old_places:
            return
        places = max(old_places, -(-num_places // ROOM_PLACES) * ROOM_PLACES)
        slots = max(old_slots, min(self._max_rows, 1 << (num_slots - 1).bit_length()))
        if slots * places * self._place_bytes > self._max_bytes:
            slots, places = num_slots, num_places
        for layer in self._layers:
            layer.resize(slots, places, len(self.rows))

    def _put_prompt(self, slot: int, prefix: PrefixCache) -> None:
        for room, part in zip(self._rooms, prefix.tensors, strict=False):
            room[slot, :, : prefix.num_tokens] = part[0]

    def _forward(self, first: int, texts: Sequence[Sequence[int]], starts: Sequence[int]) -> Tensor:
        """Rows from slot `first` on read on from their positions; hidden states `[b, H]` of each one's last token."""
        ids, is_text = pad(texts, self._base.model.device)
        begins = torch.tensor(starts, device=ids.device)[:, None]
        positions = begins + torch.arange(ids.shape[1], device=ids.device)
        ends = [start + len(text) for start, text in zip(starts, texts, strict=True)]
        width = max(ends)
        if len(set(map(len, texts))) == 1:
            slots = torch.arange(first, first + len(texts), device=ids.device).repeat_interleave(ids.shape[1])
            where = _Where(first, len(texts), width, slots, positions.flatten(), None)
        else:
            where = _Where(first, len(texts), width, is_text.nonzero()[:, 0] + first, positions[is_text], is_text)
            # Padding stands where the row ends: positions beyond may be more than the model has.
            positions = positions.minimum(torch.tensor(ends, device=ids.device)[:, None] - 1)
        hidden = self._run(ids, positions, where)
        lasts = torch.tensor([len(text) - 1 for text in texts], device=ids.device)
        return hidden[torch.arange(len(texts), device=ids.device), lasts]

    def _run(self, ids: Tensor, positions: Tensor, where: _Where, windows: "dict[str, int | None] | None" = None) -> Tensor:
        for layer in self._layers:
            layer.where = where
        masks = {kind: self._mask(positions, where.width, window) for kind, window in (windows or self._windows).items()}
        hidden: Tensor = self._inner(
            input_ids=ids,
            attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return hidden

    def _mask(self, positions: Tensor, width: int, window: int | None) -> Tensor:
        """Which places `[b, 1, T, width]` the tokens at these positions see."""
        places = torch.arange(width, device=positions.device)
        sees = places <= positions[..., None]
        if window is not None:
            sees &= places > positions[..., None] - window
        if not self._adds_mask:
            return sees[:, None]
        dtype = self._base.model.dtype
        nothing = torch.zeros((), dtype=dtype, device=positions.device)
        return torch.where(sees[:, None], nothing, torch.finfo(dtype).min)

    @torch.inference_mode()
    def _check(self) -> None:
        """Make the layers as the model makes them, and compare ragged rows with rows alone."""
        texts = [[1, 2, 3], [4, 5, 6, 7, 8]]
        texts = [[token % self._base.vocabulary_size for token in text] for text in texts]
        probe: Any = DynamicCache()
        expected = [self._alone(texts[0], probe), self._alone(texts[1], DynamicCache())]
        self._layers = [_SlotLayer(layer.keys, layer.values) for layer in probe.layers]
        self._place_bytes = sum(layer.keys[0, :, :1].nbytes + layer.values[0, :, :1].nbytes for layer in probe.layers)
        self._cache = Cache(layers=list(self._layers))
        self._reserve(2, 8)
        actual = self._forward(0, texts, [0, 0])
        self._compare(actual, expected)
        expected = [self._alone([*text, 9 % self._base.vocabulary_size], DynamicCache()) for text in texts]
        actual = self._forward(0, [[9 % self._base.vocabulary_size]] * 2, [3, 5])
        self._compare(actual, expected)
        if len(self._windows) > 1:
            self._check_kinds(texts[1])
        self.clear()

    def _check_kinds(self, text: list[int]) -> None:
        """Each kind of layer must look at its own mask: a narrower window gives something else."""
        ids = torch.tensor([text], device=self._base.model.device)
        positions = torch.arange(len(text), device=ids.device)[None]
        where = _Where(0, 1, len(text), torch.zeros_like(ids[0]), positions[0], None)
        wide = self._run(ids, positions, where, dict.fromkeys(self._windows))
        for kind in self._windows:
            narrow = self._run(ids, positions, where, dict.fromkeys(self._windows) | {kind: 1})
            if torch.equal(wide, narrow):
                raise _refused(self._base, f"its layers of kind {kind} do not look at a mask of their own")

    def _alone(self, text: list[int], cache: DynamicCache) -> Tensor:
        ids = torch.tensor([text], device=self._base.model.device)
        hidden: Tensor = self._inner(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
        return hidden[0, -1]

    def _compare(self, actual: Tensor, expected: list[Tensor]) -> None:
        truth = torch.stack(expected).float()
        difference = float((actual.float() - truth).norm() / truth.norm().clamp_min(1e-12))
        if not difference <= PROBE_TOLERANCE.get(self._base.model.dtype, 1e-4):
            raise _refused(self._base, f"ragged rows differ from rows alone by {difference:.1e}")


def _windows(base: FrozenBase) -> dict[str, int | None]:
    """Kinds of layers with their sliding windows in tokens; None: none."""
    layers = DynamicCache(config=base.model.config.get_text_config(decoder=True)).layers
    found = {getattr(layer, "sliding_window", None) for layer in layers}
    return {"full_attention" if window is None else "sliding_attention": window for window in found}


def _structural_refusal(base: FrozenBase) -> str | None:
    """Why rows in slots would not be exact for a base, or None, as far as its config says."""
    if base.is_encoder_decoder:
        return "an encoder-decoder model"
    if reason := SharedPrefix.refusal(base):
        return reason
    config = base.model.config.get_text_config(decoder=True)
    layers = DynamicCache(config=config).layers
    if len({getattr(layer, "sliding_window", None) for layer in layers} - {None}) > 1:
        return "sliding windows of several sizes"
    if unknown := set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}:
        return f"layers of kind {', '.join(sorted(unknown))}"
    if base.model.config._attn_implementation not in ("sdpa", "eager"):
        return f"attention by {base.model.config._attn_implementation}, which takes no mask of ours"
    return None


def _refused(base: FrozenBase, reason: str) -> UnsupportedBaseModel:
    return UnsupportedBaseModel(
        f"Rows of {base.model.config.model_type} cannot share a batch whose rows come and go.",
        expected="exact rows",
        actual=reason,
    )
