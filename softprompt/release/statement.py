"""What a channel serves, as a document: one immutable, signed *generation* states all of it.

The signed bytes are an in-toto Statement v1 whose predicate is the `Generation` and whose subjects are the digests of
the prompts. Times are RFC 3339 in UTC with whole seconds (`2026-11-21T14:00:00Z`), so that people can read what they
sign. Signing is `envelope`'s business, and whether a generation may be believed `channel`'s.
"""

from collections.abc import Set
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from softprompt.artifact import Sha256
from softprompt.documents import Document
from softprompt.names import Name
from softprompt.numerics import Numerics
from softprompt.release.in_toto import StatementType

MAX_SKIPPED = 1000

Verdict = Literal["passed", "undecided", "rejected"]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


def parse_time(text: str) -> float:
    """`2026-11-21T14:00:00Z` as seconds since 1970. ValueError: any other form."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def format_time(seconds: float) -> str:
    """Seconds since 1970 as `2026-11-21T14:00:00Z`; parts of a second are dropped."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_time(text: str) -> str:
    if format_time(parse_time(text)) != text:
        raise ValueError(f"{text!r} is not a time of the form 2026-11-21T14:00:00Z")
    return text


Time = Annotated[str, AfterValidator(_check_time)]
OptionalTime = Annotated[str, AfterValidator(lambda text: text and _check_time(text))]


class Approval(Document):
    """What was known about one prompt when it was approved; also a blob, so that a proposal can name it by digest."""

    schema_version: Literal[1] = 1
    prompt: Sha256
    """Digest of the prompt's manifest."""
    verdict: Verdict
    """Of the evaluation gates."""
    numerics: Numerics
    """What the evidence was measured with; it holds for nothing else."""
    model_version: str = Field(max_length=256)
    """Version in MLflow; empty where it was not registered."""
    evaluated: OptionalTime = ""
    """When the evidence was measured; empty: unknown."""
    evidence: dict[FileName, Sha256]
    """File name -> sha256 of the evidence blob."""


class Share(Document):
    """One prompt and its share of a name's requests."""

    prompt: Sha256
    """Digest of the prompt's manifest."""
    weight: int = Field(default=1, ge=1, le=10_000)
    """Relative to the other prompts of the same name and base model."""


class Served(Document):
    """What one name means."""

    bases: dict[Sha256, tuple[Share, ...]] = Field(min_length=1)
    """Base fingerprint -> prompts trained on that base; several for a canary."""
    shadow: tuple[Sha256, ...] = ()
    """Prompts that see the same requests without answering them."""
    pinned: bool = False
    """Warm before a node calls itself ready."""
    pinnable: tuple[Sha256, ...] = ()
    """Further prompts that a request may ask for by digest."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for base, shares in self.bases.items():
            digests = [share.prompt for share in shares]
            if not digests or len(set(digests)) < len(digests):
                raise ValueError(f"base {base[:12]}: needs at least one prompt, and none twice")
        return self

    @property
    def digests(self) -> frozenset[str]:
        """Every prompt that the name uses."""
        active = {share.prompt for shares in self.bases.values() for share in shares}
        return frozenset(active | set(self.shadow) | set(self.pinnable))

    def without(self, digests: Set[str]) -> "Served | None":
        """What is left of the name when some prompts must not be served; None: nothing."""
        kept = {base: tuple(share for share in shares if share.prompt not in digests) for base, shares in self.bases.items()}
        bases = {base: shares for base, shares in kept.items() if shares}
        if not bases:
            return None
        shadow, pinnable = (tuple(one for one in some if one not in digests) for some in (self.shadow, self.pinnable))
        return Served(bases=bases, shadow=shadow, pinned=self.pinned, pinnable=pinnable)


class ChannelState(Document):
    """Everything that a channel serves, apart from when and by whom it was stated."""

    prompts: dict[Name, Served] = Field(default_factory=dict)
    """Name -> prompts."""
    approvals: dict[Sha256, Approval] = Field(default_factory=dict)
    """Prompt digest -> what was known about it; for each prompt that a name uses, and no other."""
    revoked: tuple[Sha256, ...] = ()
    """Prompts that must not be served, whatever else says so."""
    numerics: tuple[Numerics, ...] = ()
    """Number formats that the channel's fleet uses."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.approvals.keys() != self.digests:
            raise ValueError("approvals: must cover the prompts in use, and no other")
        if any(approval.prompt != digest for digest, approval in self.approvals.items()):
            raise ValueError("approvals: one is about another prompt")
        if self.digests & set(self.revoked):
            raise ValueError("revoked: a revoked prompt is in use")
        return self

    @property
    def digests(self) -> frozenset[str]:
        """Every prompt in use."""
        return frozenset().union(*(served.digests for served in self.prompts.values()))


class Generation(Document):
    """One statement of everything that a channel serves; numbers only grow."""

    schema_version: Literal[1] = 1
    channel: Name
    channel_id: Identifier
    """From the trust root; a channel of the same name elsewhere has another."""
    generation: int = Field(ge=1, lt=10**12)
    state: ChannelState
    git_commit: str = Field(default="", pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})?$")
    """What it was computed from, where Git is the authority; else empty."""
    publish_id: Identifier
    """Random, never used twice."""
    created: Time
    expires: Time
    previous: Sha256 | Literal[""]
    """sha256 of the envelope of the newest generation that verified before; empty for the first of a channel."""
    skipped: tuple[int, ...] = Field(default=(), max_length=MAX_SKIPPED)
    """Numbers since that one, taken by objects that do not verify."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.skipped != tuple(range(self.generation - len(self.skipped), self.generation)):
            raise ValueError("skipped: must be the numbers just before this one")
        if self.predecessor < 0 or (self.predecessor == 0) != (self.previous == ""):
            raise ValueError("previous: the first generation has none, each other one has")
        if parse_time(self.created) >= parse_time(self.expires):
            raise ValueError("expires: must be after created")
        return self

    @property
    def predecessor(self) -> int:
        """Number of the generation that `previous` names; 0: there is none."""
        return self.generation - len(self.skipped) - 1


_STATEMENT = StatementType(
    predicate_type="urn:softprompt:generation:v1",
    document=Generation,
    subjects=lambda generation: generation.state.digests,
    name="generation",
)
# What is signed, and how it is read again once its signature has been verified.
to_statement = _STATEMENT.write
from_statement = _STATEMENT.read
