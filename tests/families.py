"""Tiny random base models of every family, so that exactness is tested where the architectures differ."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from softprompt.base_model import FrozenBase, TextSide
from softprompt.engine.concatenate import Concatenate
from softprompt.engine.strategy import Strategy, choose_strategy

V = 97
SMALL = {"vocab_size": V, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = SMALL | {"num_key_value_heads": 2, "max_position_embeddings": 64}

FAMILIES = {
    "gpt2": ("gpt2", {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "llama": ("llama", GROUPED),
    "llama-tied": ("llama", GROUPED | {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "mistral": ("mistral", GROUPED | {"sliding_window": None}),
    "mistral-window": ("mistral", GROUPED | {"sliding_window": 8}),
    "qwen2": ("qwen2", GROUPED),
    "qwen3": ("qwen3", GROUPED | {"head_dim": 16}),
    "gemma2": ("gemma2", GROUPED | {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16}),
    "gemma3": ("gemma3_text", GROUPED | {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16}),
    "phi3": ("phi3", GROUPED | {"pad_token_id": 0, "sliding_window": None}),
    "opt": (
        "opt",
        {
            "vocab_size": V,
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 32,
        },
    ),
    "gpt_neox": ("gpt_neox", SMALL | {"max_position_embeddings": 64}),
    "t5": (
        "t5",
        {
            "vocab_size": V,
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": 0,
            "pad_token_id": 0,
        },
    ),
    "t5-uneven": (  # as flan-t5-small: heads x d_kv is not d_model; and another number of decoder layers
        "t5",
        {
            "vocab_size": V,
            "d_model": 32,
            "d_kv": 16,
            "d_ff": 48,
            "num_layers": 2,
            "num_decoder_layers": 3,
            "num_heads": 4,
            "decoder_start_token_id": 0,
            "pad_token_id": 0,
            "feed_forward_proj": "gated-gelu",
        },
    ),
    "bart": (
        "bart",
        {
            "vocab_size": V,
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "max_position_embeddings": 64,
            "decoder_start_token_id": 2,
            "pad_token_id": 1,
        },
    ),
}
ENCODER_DECODER = [name for name, (kind, _) in FAMILIES.items() if kind in ("t5", "bart")]
CAUSAL = [name for name in FAMILIES if name not in ENCODER_DECODER]


def tiny_base(family: str, dtype: torch.dtype = torch.float32, *, context_tokens: int = 0) -> FrozenBase:
    """A frozen random base of a family; weights spread widely, so that prompts change answers.

    Args:
        family: One of `FAMILIES`.
        dtype: Number format.
        context_tokens: Longest sequence, where the family's positions are counted; 0: as listed.
    """
    kind, options = FAMILIES[family]
    counted = {"n_positions", "max_position_embeddings"} & set(options)
    options = options | (dict.fromkeys(counted, context_tokens) if context_tokens else {})
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, bos_token_id=1, eos_token_id=2, **options)
    loader = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = loader.from_config(config, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            parameter.data = torch.randn(parameter.shape, generator=generator).to(dtype) * (0.5 if "embed" in name else 0.25)
            if kind == "t5" and name.endswith(".q.weight"):  # T5 scales here instead of in the attention
                parameter.data *= config.d_kv**-0.5
    model.requires_grad_(False)
    return FrozenBase(model.eval(), TextSide(None, config), "0" * 64)  # type: ignore[arg-type]  # these tests feed token ids


def strategies_for(base: FrozenBase, kind: str | None) -> list[Strategy]:
    """Every strategy that claims a kind of prompt on a base, the chosen one first; None: the bare base."""
    chosen = choose_strategy(base, kind)  # type: ignore[arg-type]  # tests name kinds by their words
    return [chosen] if kind == "deep" or chosen.name == "concatenate" else [chosen, Concatenate(base)]
