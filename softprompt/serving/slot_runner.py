"""Runs a causal base over rows in slots: what each token sees, where its keys and values go, and what comes out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from softprompt.base_model import FrozenBase
from softprompt.engine.batches import pad
from softprompt.engine.head import inner_model
from softprompt.engine.shared_prefix import PrefixCache
from softprompt.serving.slot_cache import SlotLayer, Where

Windows = Mapping[str, int | None]
"""Kinds of layers, as models name them, with their sliding windows in tokens; None: none."""


class SlotRunner:
    """A base and the slots that it reads from and writes to.

    Args:
        base: The base model.

    Attributes:
        windows: Of the base's layers.
        place_bytes: Memory of one place of one slot, all layers together.
    """

    @torch.inference_mode()
    def __init__(self, base: FrozenBase) -> None:
        self.base, self._inner = base, inner_model(base)
        self._adds_mask = base.model.config._attn_implementation == "eager"  # the others choose by it
        self.windows: Windows = windows_of(base)
        made: Any = DynamicCache()
        self.alone([0], made)  # the model itself says what its keys and values look like
        self._layers = [SlotLayer(layer.keys, layer.values) for layer in made.layers]
        self._cache = Cache(layers=list(self._layers))
        self.place_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in made.layers)

    @property
    def num_bytes(self) -> int:
        """Memory that keys and values have now."""
        return sum(room.nbytes for room in self._rooms)

    @property
    def size(self) -> tuple[int, int]:
        """(slots, places of each)."""
        num_slots, _, num_places, _ = self._rooms[0].shape
        return num_slots, num_places

    def resize(self, num_slots: int, num_places: int, num_kept: int) -> None:
        """Other room for the same first `num_kept` slots."""
        for layer in self._layers:
            layer.resize(num_slots, num_places, num_kept)

    def put_prompt(self, slot: int, prefix: PrefixCache) -> None:
        """A slot begins with a prompt."""
        for room, part in zip(self._rooms, prefix.tensors, strict=False):
            room[slot, :, : prefix.num_tokens] = part[0]

    def move(self, source: int, target: int, num_places: int) -> None:
        """Copy what stands in the first places of a slot to another."""
        for room in self._rooms:
            room[target, :, :num_places] = room[source, :, :num_places]

    def wipe(self, slot: int) -> None:
        """Leave nothing in a slot."""
        for room in self._rooms:
            room[slot] = 0

    def read(self, first: int, texts: Sequence[Sequence[int]], starts: Sequence[int]) -> Tensor:
        """Rows from slot `first` on read on.

        Args:
            first: Slot of the first row.
            texts: Token ids that each reads.
            starts: Position of each one's first token.

        Returns:
            Hidden states `[b, H]` of each row's last token.
        """
        ids, is_text = pad(texts, self.base.model.device)
        begins = torch.tensor(starts, device=ids.device)[:, None]
        positions = begins + torch.arange(ids.shape[1], device=ids.device)
        ends = [start + len(text) for start, text in zip(starts, texts, strict=True)]
        if len(set(map(len, texts))) == 1:
            slots = torch.arange(first, first + len(texts), device=ids.device).repeat_interleave(ids.shape[1])
            where = Where(first, len(texts), max(ends), slots, positions.flatten(), None)
        else:
            where = Where(first, len(texts), max(ends), is_text.nonzero()[:, 0] + first, positions[is_text], is_text)
            # Padding stands where the row ends: positions beyond may be more than the model has.
            positions = positions.minimum(torch.tensor(ends, device=ids.device)[:, None] - 1)
        hidden = self.run(ids, positions, where, self.windows)
        lasts = torch.tensor([len(text) - 1 for text in texts], device=ids.device)
        return hidden[torch.arange(len(texts), device=ids.device), lasts]

    def run(self, ids: Tensor, positions: Tensor, where: Where, windows: Windows) -> Tensor:
        """Hidden states `[b, T, H]` of tokens at some positions, both `[b, T]`."""
        for layer in self._layers:
            layer.where = where
        masks = {kind: self._mask(positions, where.width, window) for kind, window in windows.items()}
        hidden: Tensor = self._inner(
            input_ids=ids,
            attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return hidden

    def alone(self, text: Sequence[int], cache: DynamicCache) -> Tensor:
        """The last hidden state `[H]` of a text that the base reads by itself, as transformers runs it."""
        ids = torch.tensor([list(text)], device=self.base.model.device)
        hidden: Tensor = self._inner(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
        return hidden[0, -1]

    @property
    def _rooms(self) -> list[Tensor]:
        """Keys, then values, layer by layer."""
        return [room for layer in self._layers for room in layer.rooms]

    def _mask(self, positions: Tensor, width: int, window: int | None) -> Tensor:
        """Which places `[b, 1, T, width]` the tokens at these positions see."""
        places = torch.arange(width, device=positions.device)
        sees = places <= positions[..., None]
        if window is not None:
            sees &= places > positions[..., None] - window
        if not self._adds_mask:
            return sees[:, None]
        dtype = self.base.model.dtype
        nothing = torch.zeros((), dtype=dtype, device=positions.device)
        return torch.where(sees[:, None], nothing, torch.finfo(dtype).min)


def windows_of(base: FrozenBase) -> Windows:
    """Kinds of a base's layers with their windows."""
    layers = DynamicCache(config=base.model.config.get_text_config(decoder=True)).layers
    found = {getattr(layer, "sliding_window", None) for layer in layers}
    return {"full_attention" if window is None else "sliding_attention": window for window in found}
