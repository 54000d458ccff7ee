"""Hidden states to logits, for the tokens that are needed only.

Models scale, cap or shift what their output embedding gives. The rules are read from the config, and then *checked*: the head
must give the logits of the model's own forward on a probe, or it refuses. So a model with a head of a kind that is not known
here is refused by name instead of trained wrongly.
"""

import torch
from torch import Tensor, nn

from softprompt.base_model import FrozenBase
from softprompt.errors import UnsupportedBaseModel

PROBE_TOKENS = 4
PROBE_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest relative difference (by norm) between the model's own logits and ours; rounding only."""


class Head:
    """The output side of a frozen base model.

    Args:
        base: The base model.

    Raises:
        UnsupportedBaseModel: Its own forward gives other logits.
    """

    def __init__(self, base: FrozenBase) -> None:
        model, config = base.model, base.model.config.get_text_config(decoder=True)
        linear = model.get_output_embeddings()
        self.weight: Tensor = linear.weight
        self.bias: Tensor | None = linear.bias
        shift = getattr(model, "final_logits_bias", None)
        self._shift: Tensor | None = shift[0] if isinstance(shift, Tensor) else None
        self._softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self._scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
        if getattr(config, "scale_decoder_outputs", False):
            self._scale *= config.d_model**-0.5
        self._check(base)

    def __call__(self, hidden: Tensor, token_ids: Tensor | None = None) -> Tensor:
        """Logits of some tokens, or of all.

        Args:
            hidden: `[M, H]`, the model's last hidden states.
            token_ids: `[U]`; None: the whole vocabulary.

        Returns:
            `[M, U]` or `[M, V]`, in the base's number format.
        """
        weight, bias, shift = (
            part if part is None or token_ids is None else part[token_ids.to(part.device)]
            for part in (self.weight, self.bias, self._shift)
        )
        assert weight is not None
        logits = nn.functional.linear(hidden, weight, bias)
        logits = logits * self._scale if self._scale != 1.0 else logits
        if self._softcap:
            logits = torch.tanh(logits / self._softcap) * self._softcap
        return logits if shift is None else logits + shift

    @torch.no_grad()
    def _check(self, base: FrozenBase) -> None:
        ids = torch.arange(PROBE_TOKENS, device=base.model.device)[None] % base.vocabulary_size
        inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if base.is_encoder_decoder else {})
        expected = base.model(**inputs).logits.float()
        hidden = last_hidden(base, ids)
        actual = self(hidden[0]).float()
        difference = float((actual - expected[0]).norm() / expected.norm().clamp_min(1e-12))
        if difference > PROBE_TOLERANCE.get(base.model.dtype, 1e-4):
            raise UnsupportedBaseModel(
                f"The output head of {base.model.config.model_type} is of a kind that softprompt does not know.",
                expected="the logits of the model's own forward",
                actual=f"a relative difference of {difference:.1e}",
                hint="Open an issue with the model's config.json.",
            )


def inner_model(base: FrozenBase) -> nn.Module:
    """A causal model without its head: it gives `last_hidden_state`."""
    inner: nn.Module = base.model.base_model
    return inner


def last_hidden(base: FrozenBase, ids: Tensor) -> Tensor:
    """Last hidden states `[B, T, H]` of plain token ids; for encoder-decoder models the ids go to both sides."""
    if not base.is_encoder_decoder:
        hidden: Tensor = inner_model(base)(input_ids=ids).last_hidden_state
        return hidden
    encoded = base.model.get_encoder()(input_ids=ids).last_hidden_state
    decoded: Tensor = base.model.get_decoder()(input_ids=ids, encoder_hidden_states=encoded).last_hidden_state
    return decoded
