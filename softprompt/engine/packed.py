"""The packed strategy: the rows of a batch without padding in one sequence; every row sees the prompt and itself.

For devices with a kernel that skips what a mask leaves out (FlexAttention; He et al. 2024), where padding and copies of the
prompt's keys and values cost more than the mask: the prompt's are there once, not once a row. Positions begin at `P` in each row.
Off such devices the same sequence runs with a dense mask, exact and slow: that is how the layout is tested.
"""

import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, create_mask

from softprompt.base_model import FrozenBase
from softprompt.engine.batches import Batch
from softprompt.engine.shared_prefix import PrefixCache, SharedPrefix

BLOCK_TOKENS = 128
"""The kernel's blocks; a sequence is filled up to a multiple, so that few lengths have to be compiled."""

MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(batch, head, query, key) indices -> may the query look there?"""


class Packed(SharedPrefix):
    """Runs a causal base behind a cached prompt over rows in one sequence; see `Strategy`. Answers go on as in its parent."""

    name = "packed"

    @staticmethod
    def refusal(base: FrozenBase) -> str | None:
        """Why this strategy would not be exact or not be fast for a base, or None."""
        if base.is_encoder_decoder:
            return "an encoder-decoder model"
        if reason := SharedPrefix.refusal(base):
            return reason
        config = base.model.config.get_text_config(decoder=True)
        if "sliding_attention" in (getattr(config, "layer_types", None) or ()) or getattr(config, "sliding_window", None):
            return "layers with a sliding window"
        if not base.model._supports_flex_attn:
            return f"{config.model_type} does not run with FlexAttention"
        return None

    def hidden(self, prefix: PrefixCache, batch: Batch) -> Tensor:
        """Hidden states of the scored positions, `[M, H]`."""
        ids, rows, offsets = pack(batch)
        sees = sees_prompt_and_itself(rows, prefix.num_tokens)
        place = torch.zeros_like(batch.input_ids)
        place[batch.input_mask] = torch.arange(int(batch.input_mask.sum()), device=ids.device)
        scored = place[batch.rows, batch.positions]
        needed = torch.zeros_like(ids, dtype=torch.bool)
        needed[scored] = True
        with _attention(self.base, self._kernel), self._saving(needed[None]):
            hidden: Tensor = self._inner(
                input_ids=ids[None],
                attention_mask=self._mask(sees, len(ids), prefix.num_tokens + len(ids)),
                position_ids=offsets[None] + prefix.num_tokens,
                past_key_values=self._read_only(prefix, 1),
                use_cache=True,
            ).last_hidden_state
        return hidden[0, scored]

    @property
    def _kernel(self) -> str:
        """FlexAttention has no backward pass on processors."""
        return "flex_attention" if self.base.model.device.type == "cuda" else "sdpa"

    def _mask(self, sees: MaskFunction, num_queries: int, num_keys: int) -> BlockMask | Tensor:
        device: Any = self.base.model.device
        if self._kernel == "flex_attention":
            return create_block_mask(sees, None, None, num_queries, num_keys, device=device)
        dense: Tensor = create_mask(sees, 1, 1, num_queries, num_keys, device=device)
        return dense


def can_compile() -> bool:
    """Whether FlexAttention can run here: Triton compiles what starts its kernels, with a C compiler and Python's headers.

    Images without build tools cannot, and compute with padding. Triton takes `CC`, else gcc or clang, and no other name.
    """
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    return Path(sysconfig.get_path("include"), "Python.h").exists() and any(map(shutil.which, compilers))


def pack(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """A batch as one sequence.

    Returns:
        (token ids, which row each belongs to, its position in that row), each `[S]`, where `S` is a multiple of
        `BLOCK_TOKENS`; what fills it up belongs to row -1.
    """
    mask = batch.input_mask
    filling = -int(mask.sum()) % BLOCK_TOKENS
    rows, offsets = mask.nonzero(as_tuple=True)
    pad = torch.nn.functional.pad
    return pad(batch.input_ids[mask], (0, filling)), pad(rows, (0, filling), value=-1), pad(offsets, (0, filling))


def sees_prompt_and_itself(rows: Tensor, num_prompt_tokens: int) -> MaskFunction:
    """The mask of a packed sequence `[S]` behind `P` prompt tokens: keys are prompt, then sequence."""

    def sees(_: Tensor, __: Tensor, query: Tensor, key: Tensor) -> Tensor:
        text = (key - num_prompt_tokens).clamp_min(0)
        in_own_row = (rows[query] == rows[text]) & (text <= query)
        return (key < num_prompt_tokens) | in_own_row

    return sees


@contextmanager
def _attention(base: FrozenBase, kernel: str) -> Iterator[None]:
    """Let the base run with another attention kernel for a while."""
    before = base.model.config._attn_implementation
    base.model.set_attn_implementation(kernel)
    try:
        yield
    finally:
        base.model.set_attn_implementation(before)
