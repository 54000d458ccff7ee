"""Everything that an inspection says of a prompt, as one document; what does not exist for a base is left out by name."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, TypeVar

import torch

from softprompt.artifact import PromptFile, Sha256
from softprompt.base_model import FrozenBase
from softprompt.documents import Document
from softprompt.engine.prompts import SoftPrompt
from softprompt.errors import FingerprintMismatch, UnsupportedBaseModel
from softprompt.inspection.attention import AttentionReading, attention_paid
from softprompt.inspection.nearest import Neighbour
from softprompt.inspection.norms import NormComparison
from softprompt.inspection.spaces import Part
from softprompt.inspection.vocabulary import Comparison, compare_with_vocabulary
from softprompt.names import PromptKind

Point = tuple[float, float]
Found = TypeVar("Found")


class NearToken(Document):
    """A token of the vocabulary near to a vector."""

    token_id: int
    text: str
    """As a person reads it; spaces and line ends are made visible."""
    cosine: float
    key_cosine: float | None
    """Deep prompts, whose values the cosine compares: the same for the keys that belong to them."""


class Projection(Document):
    """A picture of one space in the vocabulary's own two main directions."""

    explained: Point
    """The share of the tokens' variance along each direction."""
    prompt_inside: float
    """The share of the prompt's squared distance from the tokens' centre that the picture can show."""
    vocabulary: tuple[Point, ...]
    """A sample of the tokens."""
    prompt: tuple[Point, ...]


class SpaceReport(Document):
    """A prompt beside the vocabulary, in one space that both have vectors in."""

    title: str
    part: Part
    layer: int
    """Counted from 1; 0 for the input embeddings."""
    norms: NormComparison
    nearest: tuple[tuple[NearToken, ...], ...]
    """For each vector; empty for keys, which are compared together with their values."""
    chance_cosine: float
    """What a direction drawn at random reaches with its nearest token, on average; 0 for keys."""
    projection: Projection


class AttentionReport(Document):
    """Attention that rows pay to the prompt, in one reading; see `softprompt.inspection.attention`."""

    shares: tuple[tuple[tuple[float, ...], ...], ...]
    """`[L, heads, P]`."""
    even_share: float
    """The prompt's share if a head looked everywhere alike."""

    @property
    def by_head(self) -> list[list[float]]:
        """`[L, heads]`: the whole prompt's share."""
        return [[sum(vectors) for vectors in heads] for heads in self.shares]

    @property
    def by_vector(self) -> list[float]:
        """`[P]`: mean over layers and heads."""
        return torch.tensor(self.shares).mean(dim=(0, 1)).tolist()

    @property
    def by_layer_and_vector(self) -> list[list[float]]:
        """`[L, P]`: mean over heads."""
        return torch.tensor(self.shares).mean(dim=1).tolist()

    @property
    def mean_share(self) -> float:
        """The whole prompt's share, mean over layers and heads."""
        return sum(self.by_vector)


class Inspection(Document):
    """What a prompt learned."""

    max_bytes: ClassVar[int] = 256 * 1024 * 1024

    schema_version: Literal[1] = 1
    name: str
    """As the person asked for it."""
    prompt: Sha256
    kind: PromptKind
    num_tokens: int
    num_numbers: int
    """Trained numbers."""
    num_bytes: int
    """Of the tensor file."""
    base_uri: str
    base_fingerprint: Sha256
    vocabulary_size: int
    spaces: tuple[SpaceReport, ...]
    rows: str
    """Which rows paid the attention."""
    num_rows: int
    attention: dict[str, AttentionReport]
    """`over the text`, `at the answer`."""
    left_out: dict[str, str]
    """Part -> why it does not exist for this prompt and base."""

    @property
    def compared(self) -> tuple[SpaceReport, ...]:
        """The spaces with nearest tokens: the input embeddings, or each layer's values."""
        return tuple(space for space in self.spaces if space.part != "keys")


def inspect_prompt(
    file: PromptFile,
    base: FrozenBase,
    rows: Sequence[Sequence[int]],
    *,
    name: str,
    rows_from: str,
    base_uri: str,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Inspect a prompt.

    Args:
        file: The prompt.
        base: The base it was trained on.
        rows: Token ids of filled templates, for the attention; too long ones are passed over.
        name: What the person calls it.
        rows_from: Where the rows come from, in words.
        base_uri: Where the base comes from.
        progress: Called with (vocabulary tokens done, all).

    Raises:
        FingerprintMismatch: It was trained on another base.
    """
    if file.manifest.base_fingerprint != base.fingerprint:
        raise FingerprintMismatch(
            "This prompt was tuned for another base model.",
            where=f"{name}, {base_uri}",
            expected=file.manifest.base_fingerprint,
            actual=base.fingerprint,
            hint="Name its own base model with --base.",
        )
    prompt = SoftPrompt(torch.from_numpy(file.values.copy())).to(base.model.device)
    room = base.text.context_tokens - prompt.num_tokens
    fitting = [ids for ids in rows if 0 < len(ids) <= room]
    left_out: dict[str, str] = {}
    spaces = _or_left_out("nearest tokens, norms, projection", left_out, lambda: _spaces(base, prompt, progress)) or ()
    attention = _or_left_out("attention", left_out, lambda: _attention(base, prompt, fitting)) or {}
    return Inspection(
        name=name,
        prompt=file.digest,
        kind=file.manifest.kind,
        num_tokens=prompt.num_tokens,
        num_numbers=prompt.values.numel(),
        num_bytes=len(file.tensor),
        base_uri=base_uri,
        base_fingerprint=base.fingerprint,
        vocabulary_size=base.vocabulary_size,
        spaces=spaces,
        rows=rows_from,
        num_rows=len(fitting),
        attention=attention,
        left_out=left_out,
    )


def token_text(base: FrozenBase, token_id: int) -> str:
    """A token as a person reads it: a space is `␣`, a line end `⏎`; a token that is no text alone keeps the tokenizer's name."""
    text = str(base.text.tokenizer.decode([token_id]))
    if not text.isprintable() or not text or "\ufffd" in text:
        text = text.replace("\n", "⏎").replace("\t", "⇥")
        if not text.isprintable() or not text or "\ufffd" in text:
            return str(base.text.tokenizer.convert_ids_to_tokens(token_id) or f"#{token_id}")
    return text.replace(" ", "␣")


def _or_left_out(part: str, left_out: dict[str, str], make: Callable[[], Found]) -> Found | None:
    try:
        return make()
    except UnsupportedBaseModel as error:
        left_out[part] = error.what
        return None


def _spaces(base: FrozenBase, prompt: SoftPrompt, progress: Callable[[int, int], None] | None) -> tuple[SpaceReport, ...]:
    return tuple(_space(base, found) for found in compare_with_vocabulary(base, prompt, progress))


def _space(base: FrozenBase, found: Comparison) -> SpaceReport:
    vectors = found.space.vectors
    return SpaceReport(
        title=found.space.title,
        part=found.space.part,
        layer=found.space.layer,
        norms=found.norms,
        nearest=tuple(tuple(_named(base, token) for token in tokens) for tokens in found.nearest),
        chance_cosine=found.chance_cosine,
        projection=Projection(
            explained=found.plane.explained,
            prompt_inside=found.plane.share_inside(vectors),
            vocabulary=_points(found.plane.project(found.sampled)),
            prompt=_points(found.plane.project(vectors)),
        ),
    )


def _named(base: FrozenBase, token: Neighbour) -> NearToken:
    return NearToken(
        token_id=token.token_id, text=token_text(base, token.token_id), cosine=token.cosine, key_cosine=token.key_cosine
    )


def _points(coordinates: torch.Tensor) -> tuple[Point, ...]:
    return tuple((x, y) for x, y in coordinates.tolist())


def _attention(base: FrozenBase, prompt: SoftPrompt, rows: Sequence[Sequence[int]]) -> dict[str, AttentionReport]:
    if not rows:
        raise UnsupportedBaseModel(f"No row fits into the base's context of {base.text.context_tokens} tokens behind the prompt.")
    return {name: _report(reading) for name, reading in attention_paid(base, prompt, rows).items()}


def _report(reading: AttentionReading) -> AttentionReport:
    shares = tuple(tuple(tuple(vectors) for vectors in heads) for heads in reading.shares.tolist())
    return AttentionReport(shares=shares, even_share=reading.even_share)
