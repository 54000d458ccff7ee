"""What a channel allows and what its names should serve: the files under `environments/<channel>/`.

    environments/<channel>/_policy.yaml   `ChannelPolicy`, the platform owners'
    environments/<channel>/<name>.yaml    `Desired`, one per name

A recipe never grants itself anything; it names a channel and this policy decides. Whether a change keeps the policy is
`plan`'s business, reading YAML strictly `softprompt.yaml_reader`'s.
"""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from softprompt.artifact import Sha256
from softprompt.documents import Document
from softprompt.errors import InvalidRequest
from softprompt.names import Name, PromptKind
from softprompt.numerics import Numerics
from softprompt.release.durable import read_if_there
from softprompt.release.statement import Served, Share
from softprompt.yaml_reader import Model, read_yaml

POLICY_FILE = "_policy.yaml"

LAPTOP_POLICY = """\
# What this laptop's channel allows. `authority: pipeline`: the step `publish_prompt` signs with a key in this folder.
schema_version: 1
authority: pipeline
"""

NamePattern = Annotated[str, StringConstraints(pattern=r"^[a-z0-9*?-]{1,60}$")]
GatePattern = Annotated[str, StringConstraints(pattern=r"^[\w.*?-]{1,120}$")]
Owner = Annotated[str, StringConstraints(pattern=r"^[^\s#]{1,200}$")]
"""As CODEOWNERS writes it: `@user`, `@organisation/team`, or an address."""


class ChannelPolicy(Document):
    """What may be published to a channel."""

    schema_version: Literal[1]
    authority: Literal["git", "pipeline"]
    """Who signs. `git`: the reconciler, after a merged pull request. `pipeline`: the step, with a key of its own."""
    allow_undecided: bool = False
    """Whether a prompt may be published whose gates were undecided."""
    review_required: bool = False
    """Whether the version's tag `review.status` in MLflow must be `approved`: necessary, never sufficient."""
    gates_required: tuple[GatePattern, ...] = ()
    """Gates that an evaluation must have and have passed, whatever its verdict: patterns with `*` and `?` of gates' names, such
    as `accuracy_*`, or a kind of gate, such as `fairness`."""
    bases: tuple[Sha256, ...] = ()
    """Fingerprints of the base models that may be named; empty: any."""
    kinds: tuple[PromptKind, ...] = ("shallow", "deep")
    """Kinds of prompt that may be named."""
    numerics: tuple[Numerics, ...] = Field(default=("float32", "bfloat16"), min_length=1)
    """Number formats that the fleet uses; evidence measured in another does not count."""
    max_age_days: int = Field(default=0, ge=0)
    """Oldest evidence that may be published, in days; 0: no limit. What was served lately may always come back."""
    names: tuple[NamePattern, ...] = ()
    """Names that may be published, as patterns with `*` and `?`; empty: any."""
    owners: dict[Owner, tuple[NamePattern, ...]] = Field(default_factory=dict)
    """Who may have which names: owner -> patterns; empty: everybody any. Where Git is the authority, the repository's CODEOWNERS
    must let nobody else approve a name's file."""
    revoked: tuple[Sha256, ...] = ()
    """Prompts that must not be served."""

    def owners_of(self, name: str) -> tuple[str, ...]:
        """Who may have a name."""
        return tuple(owner for owner, patterns in self.owners.items() if any(fnmatchcase(name, pattern) for pattern in patterns))


class DesiredShare(Document):
    """One prompt, its share of the requests, and the approval that the pipeline wrote for it."""

    prompt: Sha256
    """Digest of the prompt's manifest."""
    approval: Sha256
    """Of the approval blob."""
    weight: int = Field(default=1, ge=1, le=10_000)
    """Relative to the other prompts of the same base model."""
    model_version: str = Field(default="", max_length=256)
    """Version in MLflow, for people; where it is given, the approval must say the same."""


class Desired(Document):
    """What one name should serve."""

    schema_version: Literal[1]
    bases: dict[Sha256, tuple[DesiredShare, ...]] = Field(default_factory=dict)
    """Base fingerprint -> prompts."""
    shadow: tuple[DesiredShare, ...] = ()
    """Prompts that see the same requests without answering them."""
    pinned: bool = False
    """Warm before a node calls itself ready."""
    pinnable: tuple[DesiredShare, ...] = ()
    """Further prompts that a request may ask for by digest."""
    removed: bool = False
    """Take the name away. Deleting the file does not: a truncated checkout must unpublish nothing."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.removed == bool(self.bases):
            raise ValueError("bases: a name serves at least one base model, or says `removed: true`")
        return self

    @property
    def shares(self) -> tuple[DesiredShare, ...]:
        """Every prompt that the name uses, in order; one may be there twice."""
        return (*(share for shares in self.bases.values() for share in shares), *self.shadow, *self.pinnable)

    @property
    def served(self) -> Served | None:
        """What the name means then; None: it is taken away."""
        if self.removed:
            return None
        return Served(
            bases={
                base: tuple(Share(prompt=share.prompt, weight=share.weight) for share in shares)
                for base, shares in self.bases.items()
            },
            shadow=tuple(share.prompt for share in self.shadow),
            pinned=self.pinned,
            pinnable=tuple(share.prompt for share in self.pinnable),
        )


def read_policy(environments: Path, channel: str) -> ChannelPolicy:
    """The policy of a channel.

    Raises:
        InvalidRequest: The file is missing, or names what is wrong in it by line.
    """
    path = environments / channel / POLICY_FILE
    if not path.is_file():
        raise InvalidRequest(
            f"The channel {channel} has no policy, so nothing may be published to it.",
            where=str(path),
            hint="The platform's owners write it; it needs `schema_version: 1` and `authority: git` or `pipeline`.",
        )
    return _read(path, ChannelPolicy)


def read_desired(environments: Path, channel: str) -> dict[str, Desired]:
    """Every name's file in a channel's folder.

    Raises:
        InvalidRequest: A file is wrong, or is not called `<name>.yaml`.
    """
    found = {}
    for path in sorted((environments / channel).iterdir()):
        if path.name == POLICY_FILE or path.name.startswith("."):
            continue
        try:
            name = TypeAdapter(Name).validate_python(path.name.removesuffix(".yaml"))
        except ValidationError:
            name = ""
        if not name or path.suffix != ".yaml" or path.is_symlink() or not path.is_file():
            raise InvalidRequest("A channel's folder holds something else.", where=str(path), expected="<name>.yaml files only")
        found[name] = _read(path, Desired)
    return found


def desired_yaml(desired: Desired) -> str:
    """The text of a `<name>.yaml` that reads back as `desired`."""
    lines = ["schema_version: 1"]
    if desired.removed:
        lines.append("removed: true")
    if desired.bases:
        lines.append("bases:")
    for base, shares in sorted(desired.bases.items()):
        lines += [f'  "{base}":', *_share_lines(shares, "    ")]
    for key, shares in (("shadow", desired.shadow), ("pinnable", desired.pinnable)):
        if shares:
            lines += [f"{key}:", *_share_lines(shares, "  ")]
    if desired.pinned:
        lines.append("pinned: true")
    return "\n".join(lines) + "\n"


def _share_lines(shares: tuple[DesiredShare, ...], indent: str) -> list[str]:
    lines = []
    for share in shares:
        # Quoted: a digest may look like a number to YAML.
        lines += [f'{indent}- prompt: "{share.prompt}"', f'{indent}  approval: "{share.approval}"']
        lines += [f"{indent}  weight: {share.weight}"] if share.weight != 1 else []
        lines += [f"{indent}  model_version: {json.dumps(share.model_version)}"] if share.model_version else []
    return lines


def _read(path: Path, model: type[Model]) -> Model:
    try:
        text = (read_if_there(path) or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest("A channel's file is not UTF-8.", where=str(path), actual=str(error)) from None
    return read_yaml(text, model, source=str(path))
