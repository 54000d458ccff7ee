"""The decoder-prefix strategy: deep prompts of encoder-decoder models, in front of what the decoder has said (Li & Liang 2021).

The prompt's keys and values go into the decoder's self-attention, exactly as PEFT's `PREFIX_TUNING` with
`num_transformer_submodules: 2` puts them: encoder and cross-attention see nothing of it. Answer positions start at `P`. The
bare base runs here too, with an empty prefix: its decoder then reads each answer token once.

PEFT stacks the prompt's `L` layers twice, deals four tensors to each decoder layer and drops two of them, so decoder layer `i`
gets layer `2i mod L` of the prompt. With PEFT's own default, `L` = encoder layers, an even `L` leaves half of the prompt unused
and gives two decoder layers the same numbers. An odd `L` gives every decoder layer its own, so `prompt_layers` is odd.
"""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

from softprompt.base_model import FrozenBase
from softprompt.engine.batches import Batch
from softprompt.engine.concatenate import decoder_start
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.shared_prefix import PrefixCache, expand_rows
from softprompt.errors import UnsupportedBaseModel


class DecoderPrefix:
    """Runs an encoder-decoder base whose decoder goes on from a deep prompt; see `Strategy`."""

    name = "decoder_prefix"

    def __init__(self, base: FrozenBase) -> None:
        self.base = base

    @staticmethod
    def refusal(base: FrozenBase) -> str | None:
        """Why this strategy would not be exact for a base, or None: PEFT's cache knows no sliding windows in a decoder."""
        if not base.is_encoder_decoder:
            return "a model without a decoder of its own"
        kinds = {type(layer).__name__ for layer in DynamicCache(config=base.model.get_decoder().config).layers}
        unknown = kinds - {"DynamicLayer"}
        return f"decoder cache layers of kind {', '.join(sorted(unknown))}" if unknown else None

    def prefix(self, prompt: SoftPrompt | None) -> PrefixCache:
        """Keys and values of a deep prompt in the order of the decoder's layers, gradients attached.

        Raises:
            UnsupportedBaseModel: The prompt is shallow, or has too few layers for the decoder.
        """
        if prompt is None:
            return PrefixCache([], 0)
        pairs, num_layers = prompt.keys_and_values() if prompt.kind == "deep" else [], num_decoder_layers(self.base)
        if len(pairs) < num_layers:
            raise UnsupportedBaseModel(
                "This prompt does not fit the decoder.",
                expected=f"a deep prompt of at least {num_layers} layers",
                actual=f"a {prompt.kind} prompt of {len(pairs)} layers",
            )
        dtype = self.base.model.dtype
        dealt = [pairs[2 * layer % len(pairs)] for layer in range(num_layers)]
        return PrefixCache([(keys.to(dtype), values.to(dtype)) for keys, values in dealt], prompt.num_tokens)

    def hidden(self, prefix: PrefixCache, batch: Batch) -> Tensor:
        """Hidden states of the scored positions, `[M, H]`."""
        assert batch.decoder_ids is not None
        mask = batch.input_mask.long()
        rows = DecoderRows(self.base, self._encode(batch.input_ids, mask), mask, _expand(prefix, batch.num_rows))
        return rows.extend(batch.decoder_ids)[batch.rows, batch.positions]

    @property
    def pads(self) -> bool:
        """The encoder and what looks into it know padding."""
        return True

    def start(self, prefix: PrefixCache, input_ids: Tensor, lengths: Tensor | None = None) -> "tuple[Tensor, DecoderRows]":
        """Read input texts `[B, T]`, right-padded where they have `lengths` `[B]`; returns `[B, H]` and the rows' state."""
        mask = torch.ones_like(input_ids)
        if lengths is not None:
            mask = (torch.arange(input_ids.shape[1], device=input_ids.device) < lengths[:, None]).long()
        rows = DecoderRows(self.base, self._encode(input_ids, mask), mask, _expand(prefix, len(input_ids)))
        first = torch.full_like(input_ids[:, :1], decoder_start(self.base) or 0)
        return rows.extend(first)[:, -1], rows

    @torch.no_grad()
    def token_values(self, token_ids: Tensor) -> Tensor:
        """Keys and values that the decoder makes of real tokens, the encoder reading the same ones.

        Args:
            token_ids: `[P]`.

        Returns:
            `[L, 2, P, N, D]` with `L = prompt_layers(base)`, in the prompt's order of layers; a layer that no decoder layer
            uses is zero.
        """
        ids, mask = token_ids[None], torch.ones_like(token_ids[None])
        rows = DecoderRows(self.base, self._encode(ids, mask), mask, _expand(PrefixCache([], 0), 1))
        rows.extend(ids)
        layers: Any = rows.cache.self_attention_cache.layers
        made = [torch.stack([layer.keys[0], layer.values[0]]).transpose(1, 2) for layer in layers]
        values: Tensor = made[0].new_zeros(prompt_layers(self.base), *made[0].shape)
        for layer, pair in enumerate(made):
            values[2 * layer % len(values)] = pair
        return values

    def _encode(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        encoded: Tensor = self.base.model.get_encoder()(input_ids=input_ids, attention_mask=mask).last_hidden_state
        return encoded


class DecoderRows:
    """Rows in the middle of an answer: what the encoder read, and the decoder's cache; see `State`."""

    def __init__(self, base: FrozenBase, encoded: Tensor, mask: Tensor, cache: EncoderDecoderCache) -> None:
        self._base, self._encoded, self._mask, self.cache = base, encoded, mask, cache

    def extend(self, token_ids: Tensor) -> Tensor:
        """Feed tokens `[B, A]`; returns `[B, A, H]`."""
        hidden: Tensor = (
            self._base.model.get_decoder()(
                input_ids=token_ids,
                encoder_hidden_states=self._encoded,
                encoder_attention_mask=self._mask,
                past_key_values=self.cache,
                use_cache=True,
            )
        ).last_hidden_state
        return hidden

    def repeat(self, times: int) -> "DecoderRows":
        """Each row `times` times, side by side; this state stays as it is."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(times)
        # Cross-attention reads its cache from here on, so of what was encoded only the shape counts.
        encoded, mask = (part.repeat_interleave(times, 0) for part in (self._encoded, self._mask))
        return DecoderRows(self._base, encoded, mask, cache)

    def keep(self, rows: Tensor) -> "DecoderRows":
        """Some of the rows; this state stays as it is."""
        cache = copy.deepcopy(self.cache)
        cache.batch_select_indices(rows)
        return DecoderRows(self._base, self._encoded[rows], self._mask[rows], cache)


def num_decoder_layers(base: FrozenBase) -> int:
    """How many layers the decoder has; configs name it in three ways, and some mean the encoder's."""
    config = base.model.get_decoder().config
    names = ("num_decoder_layers", "decoder_layers", "num_hidden_layers")
    return next(int(getattr(config, name)) for name in names if getattr(config, name, None))


def prompt_layers(base: FrozenBase) -> int:
    """Layers `L` of a new deep prompt: the least odd number that gives each decoder layer its own."""
    return num_decoder_layers(base) | 1


def _expand(prefix: PrefixCache, num_rows: int) -> EncoderDecoderCache:
    """A cache in which every row's decoder begins with the prompt, without copying it."""
    own: Any = DynamicCache()
    for keys, values in prefix.layers:
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = expand_rows(keys, num_rows), expand_rows(values, num_rows)
        own.layers.append(layer)
    return EncoderDecoderCache(own, DynamicCache())
