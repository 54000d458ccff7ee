"""The shape of a recipe's prompt, and where training starts."""

from typing import Annotated, Literal

from pydantic import Field

from softprompt.documents import Document
from softprompt.names import PromptKind, Text

Reparameterisation = Literal["none", "residual", "mlp"]


def usual_num_tokens(kind: PromptKind, num_labels: int) -> int:
    """Prompt tokens `P` where a recipe names none: a deep prompt gets more where there are more labels to tell apart.

    Args:
        kind: Of the prompt.
        num_labels: Answers of a closed set; 0 where they are open.
    """
    return 100 if kind == "shallow" else min(max(20, 2 * num_labels), 128)


class FrequentTokensInit(Document):
    """Start from vocabulary rows drawn among the most frequent tokens of the training rows (Lester 2021)."""

    method: Literal["frequent_tokens"] = "frequent_tokens"
    num_candidates: int = Field(default=500, ge=1)
    """How many of the most frequent tokens to draw from."""


class ClassLabelsInit(Document):
    """Start from the vocabulary rows of the label words (Lester 2021)."""

    method: Literal["class_labels"]


class ExamplesInit(Document):
    """Start from the vocabulary rows of training rows with their answers, a few shots as an instruction would show them."""

    method: Literal["examples"]


class TextInit(Document):
    """Start from the vocabulary rows of a text, repeated or cut to length."""

    method: Literal["text"]
    text: Text
    """For example a hand-written instruction."""


class PromptInit(Document):
    """Start from another prompt of the same base model and kind (Vu 2022); a shorter one is filled up with frequent tokens."""

    method: Literal["prompt"]
    uri: Text
    """Directory of a prompt file, or of a prompt that stock PEFT saved; or a published prompt's manifest in its store,
    `s3://BUCKET/blobs/sha256/DIGEST`."""
    any_base: bool = False
    """A prompt file of another base model will do: its numbers are taken where kind and widths agree and it is not longer. Where
    not, training starts from frequent tokens."""


class RandomInit(Document):
    """Start from Gaussian noise scaled to the embedding table's RMS."""

    method: Literal["random"]


InitSpec = Annotated[
    FrequentTokensInit | ClassLabelsInit | ExamplesInit | TextInit | PromptInit | RandomInit, Field(discriminator="method")
]


class PromptSpec(Document):
    """The shape of the prompt and where it starts."""

    kind: PromptKind = "shallow"
    """`shallow`: vectors in front of the input embeddings, kilobytes. `deep`: keys and values for every layer, stronger."""
    num_tokens: int | None = Field(default=None, ge=1, le=1024)
    """Prompt tokens `P`; each takes one place of the context. Default: 100 for a shallow prompt; for a deep one two for each
    label, at least 20 and at most 128."""
    init: InitSpec = FrequentTokensInit()
    """Where training starts."""
    reparameterisation: Reparameterisation = "none"
    """Train vectors plus a network that all prompt tokens share, folded into the vectors at the end. `residual`: a small network
    of the vectors themselves (Razdaibiedina 2023). `mlp`: a network of learned embeddings (Li & Liang 2021), at the memory of
    `bottleneck` times a token's numbers."""
    bottleneck: int = Field(default=64, ge=1, le=4096)
    """Width of that network's middle; `mlp` wants 256."""
