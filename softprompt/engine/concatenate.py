"""The concatenate strategy: the prompt's vectors in front of the input embeddings, for every row (Lester et al. 2021).

For encoder-decoder models, whose encoder reads prompt and text together, and for any causal model without a usable cache. Right
padding, so each row's hidden states are what they are for the row alone. Answers are extended by computing the decoder again:
slow and exact.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softprompt.base_model import FrozenBase
from softprompt.engine.batches import Batch
from softprompt.engine.head import inner_model
from softprompt.engine.prompts import SoftPrompt


@dataclass(frozen=True)
class PrefixVectors:
    """A shallow prompt's vectors `[P, H]` in the base's number format, or None for the bare base."""

    vectors: Tensor | None

    @property
    def num_tokens(self) -> int:
        """Prompt tokens `P`."""
        return 0 if self.vectors is None else len(self.vectors)

    @property
    def num_bytes(self) -> int:
        """Memory it holds."""
        return 0 if self.vectors is None else self.vectors.nbytes

    @property
    def tensors(self) -> list[Tensor]:
        """The vectors."""
        return [] if self.vectors is None else [self.vectors]

    def with_tensors(self, tensors: list[Tensor]) -> "PrefixVectors":
        """The same with other vectors."""
        return PrefixVectors(tensors[0] if tensors else None)


class Concatenate:
    """Runs a base over prompt and text joined; see `Strategy`."""

    name = "concatenate"

    def __init__(self, base: FrozenBase) -> None:
        self.base = base

    def prefix(self, prompt: SoftPrompt | None) -> PrefixVectors:
        """The prompt's vectors, gradients attached."""
        return PrefixVectors(None if prompt is None else prompt.values.to(self.base.model.dtype))

    def hidden(self, prefix: PrefixVectors, batch: Batch) -> Tensor:
        """Hidden states of the scored positions, `[M, H]`."""
        vectors, mask = self._join(prefix, batch.input_ids, batch.input_mask)
        if batch.decoder_ids is None:
            hidden: Tensor = inner_model(self.base)(inputs_embeds=vectors, attention_mask=mask, use_cache=False).last_hidden_state
            return hidden[batch.rows, batch.positions + prefix.num_tokens]
        return self.decode(self._encode(vectors, mask), mask, batch.decoder_ids)[batch.rows, batch.positions]

    @property
    def pads(self) -> bool:
        """Everything is computed anew for every answer token: padding in the middle would have to be, too."""
        return False

    def start(self, prefix: PrefixVectors, input_ids: Tensor, lengths: Tensor | None = None) -> "tuple[Tensor, JoinedRows]":
        """Read input texts of equal length `[B, T]`; returns `[B, H]` and the rows' state."""
        assert lengths is None, "it does not pad"
        vectors, mask = self._join(prefix, input_ids, torch.ones_like(input_ids, dtype=torch.bool))
        if not self.base.is_encoder_decoder:
            rows = JoinedRows(self, vectors, input_ids[:, :0])
        else:
            first = torch.full_like(input_ids[:, :1], decoder_start(self.base) or 0)
            rows = JoinedRows(self, self._encode(vectors, mask), first)
        return rows.hidden()[:, -1], rows

    def decode(self, encoded: Tensor, mask: Tensor, decoder_ids: Tensor) -> Tensor:
        """Decoder hidden states `[B, A, H]` over encoder states `[B, T, H]`."""
        hidden: Tensor = (
            self.base.model.get_decoder()(
                input_ids=decoder_ids, encoder_hidden_states=encoded, encoder_attention_mask=mask, use_cache=False
            )
        ).last_hidden_state
        return hidden

    def _encode(self, vectors: Tensor, mask: Tensor) -> Tensor:
        encoded: Tensor = self.base.model.get_encoder()(inputs_embeds=vectors, attention_mask=mask).last_hidden_state
        return encoded

    def _join(self, prefix: PrefixVectors, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Prompt and text as input vectors `[B, P+T, H]`, with their mask."""
        text: Tensor = self.base.embedding(ids)
        if prefix.vectors is None:
            return text, mask.long()
        ones = mask.new_ones(len(ids), prefix.num_tokens)
        vectors = torch.cat([prefix.vectors.expand(len(ids), -1, -1), text], dim=1)
        return vectors, torch.cat([ones, mask], dim=1).long()


class JoinedRows:
    """Rows in the middle of an answer: what was read, and the answer tokens so far; see `State`."""

    def __init__(self, strategy: Concatenate, read: Tensor, answer: Tensor) -> None:
        self._strategy, self._read, self._answer = strategy, read, answer

    def hidden(self) -> Tensor:
        """Hidden states of everything that produces answers, computed anew."""
        base, mask = self._strategy.base, torch.ones(self._read.shape[:2], dtype=torch.long, device=self._read.device)
        if base.is_encoder_decoder:
            return self._strategy.decode(self._read, mask, self._answer)
        vectors = torch.cat([self._read, base.embedding(self._answer)], dim=1)
        hidden: Tensor = inner_model(base)(inputs_embeds=vectors, use_cache=False).last_hidden_state
        return hidden

    def extend(self, token_ids: Tensor) -> Tensor:
        """Feed tokens `[B, A]`; returns `[B, A, H]`."""
        self._answer = torch.cat([self._answer, token_ids], dim=1)
        return self.hidden()[:, -token_ids.shape[1] :]

    def repeat(self, times: int) -> "JoinedRows":
        """Each row `times` times, side by side."""
        return JoinedRows(self._strategy, self._read.repeat_interleave(times, 0), self._answer.repeat_interleave(times, 0))

    def keep(self, rows: Tensor) -> "JoinedRows":
        """Some of the rows."""
        return JoinedRows(self._strategy, self._read[rows], self._answer[rows])


def decoder_start(base: FrozenBase) -> int | None:
    """First decoder token of an encoder-decoder model; None for causal models."""
    return int(base.model.config.decoder_start_token_id) if base.is_encoder_decoder else None
