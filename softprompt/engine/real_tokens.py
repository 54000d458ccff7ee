"""What real tokens are to a base model where a prompt stands: embeddings, or the keys and values of each layer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt.base_model import FrozenBase
from softprompt.engine.decoder_prefix import DecoderPrefix, num_decoder_layers
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.shared_prefix import SharedPrefix
from softprompt.names import PromptKind
from softprompt.peft_checkpoint import BaseShape


@torch.no_grad()
def token_values(base: FrozenBase, token_ids: Sequence[int], kind: PromptKind) -> Tensor:
    """What real tokens are to the base: embeddings `[P, H]`, or keys and values `[L, 2, P, N, D]`, float32 on the CPU."""
    ids = torch.tensor(list(token_ids), device=base.model.device)
    vectors: Tensor = base.embedding(ids).float()
    if kind == "shallow":
        return vectors.cpu()
    if base.is_encoder_decoder:
        return DecoderPrefix(base).token_values(ids).float().cpu()
    layers = SharedPrefix(base).prefix(SoftPrompt(vectors)).layers
    pairs = [torch.stack([keys[0].transpose(0, 1), values[0].transpose(0, 1)]) for keys, values in layers]
    return torch.stack(pairs).float().cpu()


def base_shape(base: FrozenBase) -> BaseShape:
    """What of a base decides whether a prompt can belong to it."""
    cached: type[SharedPrefix | DecoderPrefix] = DecoderPrefix if base.is_encoder_decoder else SharedPrefix
    if cached.refusal(base):
        return BaseShape(base.hidden_size, 0, 0, 0, base.is_encoder_decoder)
    layers, _, _, heads, size = token_values(base, [0], "deep").shape
    layers = num_decoder_layers(base) if base.is_encoder_decoder else layers
    return BaseShape(base.hidden_size, layers, heads, size, base.is_encoder_decoder)
