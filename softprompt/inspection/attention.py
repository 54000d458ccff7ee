"""The attention that real rows pay to a prompt, from the model's own attention weights.

A row's attention is a distribution over what it can see: the prompt's vectors and the text so far. Its share on the prompt says
how much a head listens to the prompt instead of the text. Two readings: over the text (every position of the input text), and at
the answer (the one position from which the first answer token is predicted). A share is compared with the *even* one, which a
head would pay that looks everywhere alike; attention says where a head looks, not what it does with what it sees there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from softprompt.base_model import FrozenBase
from softprompt.engine.concatenate import decoder_start
from softprompt.engine.decoder_prefix import DecoderPrefix
from softprompt.engine.head import inner_model
from softprompt.engine.prompts import SoftPrompt
from softprompt.errors import UnsupportedBaseModel

OVER_THE_TEXT, AT_THE_ANSWER = "over the text", "at the answer"


@dataclass(frozen=True)
class AttentionReading:
    """Attention paid to the prompt, mean over rows (each row counts alike).

    Attributes:
        shares: `[L, heads, P]`, the share of a head's attention that each vector gets; its sum over `P` is the prompt's share.
        even_share: The prompt's share if a head looked everywhere alike.
    """

    shares: Tensor
    even_share: float


@torch.no_grad()
def attention_paid(base: FrozenBase, prompt: SoftPrompt, rows: Sequence[Sequence[int]]) -> dict[str, AttentionReading]:
    """Attention that rows pay to a prompt.

    Args:
        base: The base model.
        prompt: The prompt.
        rows: Token ids of each row's filled template, at least one.

    Returns:
        `over the text` and `at the answer`. In an encoder-decoder model a shallow prompt gets the encoder's self-attention, and
        what the decoder's first token pays across; a deep one gets that token's self-attention only, for the encoder does not
        see it, so there is nothing `over the text`.

    Raises:
        UnsupportedBaseModel: The model gives no attention weights, or a deep prompt does not fit its decoder.
    """
    of_both_sides = _of_encoder_decoder if prompt.kind == "shallow" else _of_decoder
    one_row = of_both_sides if base.is_encoder_decoder else _of_causal
    with eager_attention(base):
        read = [one_row(base, prompt, torch.tensor([list(ids)], device=base.model.device)) for ids in rows]
    return {name: _reading(base, prompt, rows, name, [row[name] for row in read]) for name in read[0]}


@contextmanager
def eager_attention(base: FrozenBase) -> Iterator[None]:
    """The model with the implementation that gives attention weights; afterwards as before.

    Raises:
        UnsupportedBaseModel: It has none.
    """
    before = base.model.config._attn_implementation
    try:
        base.model.set_attn_implementation("eager")
    except (ValueError, NotImplementedError) as error:
        raise _no_weights(base, str(error).splitlines()[0]) from None
    try:
        yield
    finally:
        base.model.set_attn_implementation(before)


def _reading(
    base: FrozenBase, prompt: SoftPrompt, rows: Sequence[Sequence[int]], name: str, shares: list[Tensor]
) -> AttentionReading:
    even = [_even_share(base, prompt, len(ids), name) for ids in rows]
    return AttentionReading(torch.stack(shares).mean(dim=0), sum(even) / len(even))


def _of_causal(base: FrozenBase, prompt: SoftPrompt, ids: Tensor) -> dict[str, Tensor]:
    """A row's attention to the prompt, `[L, heads, P]` each."""
    length, inner = prompt.num_tokens, inner_model(base)
    if prompt.kind == "shallow":
        vectors = _joined(base, prompt, ids)
        weights = _weights(base, inner(inputs_embeds=vectors, use_cache=False, output_attentions=True), "attentions")
        text = [layer[:, :, length:, :length] for layer in weights]
    else:
        positions = torch.arange(length, length + ids.shape[1], device=ids.device)[None]
        cache = _filled([(keys.to(base.model.dtype), values.to(base.model.dtype)) for keys, values in prompt.keys_and_values()])
        read = inner(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, output_attentions=True)
        text = [layer[..., :length] for layer in _weights(base, read, "attentions")]
    return {OVER_THE_TEXT: _mean_over_queries(text), AT_THE_ANSWER: _mean_over_queries([layer[:, :, -1:] for layer in text])}


def _of_encoder_decoder(base: FrozenBase, prompt: SoftPrompt, ids: Tensor) -> dict[str, Tensor]:
    """The same for encoder (self-attention of the text) and decoder (its first token's attention across)."""
    length = prompt.num_tokens
    encoded = base.model.get_encoder()(inputs_embeds=_joined(base, prompt, ids), output_attentions=True)
    first = torch.full_like(ids[:, :1], decoder_start(base) or 0)
    decoded = base.model.get_decoder()(
        input_ids=first, encoder_hidden_states=encoded.last_hidden_state, use_cache=False, output_attentions=True
    )
    text = [layer[:, :, length:, :length] for layer in _weights(base, encoded, "attentions")]
    answer = [layer[..., :length] for layer in _weights(base, decoded, "cross_attentions")]
    return {OVER_THE_TEXT: _mean_over_queries(text), AT_THE_ANSWER: _mean_over_queries(answer)}


def _of_decoder(base: FrozenBase, prompt: SoftPrompt, ids: Tensor) -> dict[str, Tensor]:
    """The same for a decoder that goes on from a deep prompt: the self-attention of its first token."""
    encoded = base.model.get_encoder()(input_ids=ids).last_hidden_state
    decoded = base.model.get_decoder()(
        input_ids=torch.full_like(ids[:, :1], decoder_start(base) or 0),
        encoder_hidden_states=encoded,
        past_key_values=EncoderDecoderCache(_filled(DecoderPrefix(base).prefix(prompt).layers), DynamicCache()),
        use_cache=True,
        output_attentions=True,
    )
    answer = [layer[..., : prompt.num_tokens] for layer in _weights(base, decoded, "attentions")]
    return {AT_THE_ANSWER: _mean_over_queries(answer)}


def _mean_over_queries(layers: list[Tensor]) -> Tensor:
    """Layers of `[1, heads, queries, P]` to `[L, heads, P]` float32 on the CPU."""
    return torch.stack([layer[0].float().mean(dim=1).cpu() for layer in layers])


def _joined(base: FrozenBase, prompt: SoftPrompt, ids: Tensor) -> Tensor:
    """Prompt and text as input vectors, `[1, P+T, H]`."""
    return torch.cat([prompt.values[None].to(base.model.dtype).to(ids.device), base.embedding(ids)], dim=1)


def _filled(layers: Sequence[tuple[Tensor, Tensor]]) -> DynamicCache:
    """Keys and values as a cache that keeps every position of every layer, so that all layers' weights have one width.

    The masks keep the model's sliding windows: they are made from its config, not from the cache.
    """
    cache: Any = DynamicCache()
    for layer, (keys, values) in enumerate(layers):
        cache.update(keys, values, layer)
    made: DynamicCache = cache
    return made


def _weights(base: FrozenBase, output: Any, name: str) -> tuple[Tensor, ...]:
    weights = getattr(output, name, None)
    if not weights or any(layer is None for layer in weights):
        raise _no_weights(base, f"no {name} in its output")
    return tuple(weights)


def _even_share(base: FrozenBase, prompt: SoftPrompt, num_text_tokens: int, name: str) -> float:
    """Prompt tokens among all that can be seen; in a causal model's text, mean over its positions."""
    num_prompt_tokens = prompt.num_tokens
    if base.is_encoder_decoder and prompt.kind == "deep":
        return num_prompt_tokens / (num_prompt_tokens + 1)  # the decoder's first token sees the prompt and itself
    if base.is_encoder_decoder or name == AT_THE_ANSWER:
        return num_prompt_tokens / (num_prompt_tokens + num_text_tokens)
    seen = torch.arange(1, num_text_tokens + 1) + num_prompt_tokens
    return float((num_prompt_tokens / seen).mean())


def _no_weights(base: FrozenBase, actual: str) -> UnsupportedBaseModel:
    return UnsupportedBaseModel(
        f"{base.model.config.model_type} gives no attention weights.", expected="eager attention", actual=actual
    )
