"""Change what has to change in a name's file, and nothing else: people's comments, order and quoting stay."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from softprompt.errors import InvalidRequest
from softprompt.release.planning.policy import Desired, DesiredShare, desired_yaml
from softprompt.yaml_reader import read_yaml

_INDENTS = ((2, 4, 2), (2, 2, 0), (4, 4, 0), (4, 6, 4), (4, 4, 2), (2, 3, 1))
"""Ways to indent (mapping, sequence, offset of its dash): ours first, then what people write."""
MOST_WEIGHT = 10_000


@dataclass(frozen=True)
class Edit:
    """What to do to one name."""

    share: DesiredShare
    base: str
    """Fingerprint of the base model that the prompt was trained on."""
    role: Literal["serve", "canary", "shadow"] = "serve"
    """`serve`: alone on its base. `canary`: for a part of the requests. `shadow`: sees requests and answers none."""
    percent: int = 100
    """A canary's part of the requests on its base."""
    pinned: bool = False
    """Whether to pin the name; if not, it stays as it is."""


def edit_desired(text: str, edit: Edit, *, source: str) -> str:
    """The text of a name's file after an edit.

    Args:
        text: The file; empty: there is none.
        edit: What to do.
        source: Where the file is, for messages.

    Raises:
        InvalidRequest: The file is wrong, or what is asked makes no sense for what it says.
    """
    if not text:
        return _new_file(edit)
    read_yaml(text, Desired, source=source)  # refuses what cannot be edited safely
    yaml = _writer(text)
    tree = yaml.load(text)
    tree.pop("removed", None)
    {"serve": _serve, "canary": _canary, "shadow": _shadow}[edit.role](tree, edit)
    if edit.pinned:
        tree["pinned"] = True
    return _checked(yaml, tree, source)


def remove_desired(text: str, *, source: str) -> str:
    """The text of a name's file that takes the name away. InvalidRequest: the file is wrong."""
    if not text:
        return desired_yaml(Desired(schema_version=1, removed=True))
    read_yaml(text, Desired, source=source)
    yaml = _writer(text)
    tree = yaml.load(text)
    for key in ("bases", "shadow", "pinnable", "pinned"):
        tree.pop(key, None)
    tree["removed"] = True
    return _checked(yaml, tree, source)


def without_prompt(text: str, prompt: str, *, source: str) -> str:
    """The text of a name's file that uses a prompt no more: its other prompts stay, and a name left with none is taken away.

    Raises:
        InvalidRequest: The file is wrong.
    """
    desired = read_yaml(text, Desired, source=source)
    if all(share.prompt == prompt for shares in desired.bases.values() for share in shares):
        return remove_desired(text, source=source)
    yaml = _writer(text)
    tree = yaml.load(text)
    bases = tree["bases"]
    for shares in (*bases.values(), tree.get("shadow", ()), tree.get("pinnable", ())):
        for index in reversed(range(len(shares))):
            if shares[index]["prompt"] == prompt:
                del shares[index]
    for holder, key in [*((bases, base) for base in list(bases)), (tree, "shadow"), (tree, "pinnable")]:
        if key in holder and not holder[key]:
            del holder[key]
    return _checked(yaml, tree, source)


def _new_file(edit: Edit) -> str:
    if edit.role != "serve":
        raise InvalidRequest(
            f"A {edit.role} needs a prompt beside it, and the channel has no file for this name yet.",
            hint=f"Leave out {'--weight' if edit.role == 'canary' else '--shadow'}, so that this version serves alone.",
        )
    return desired_yaml(Desired(schema_version=1, bases={edit.base: (edit.share,)}, pinned=edit.pinned))


def _serve(tree: CommentedMap, edit: Edit) -> None:
    """The only one on its base: in the place of the one that was there first."""
    bases = tree.setdefault("bases", CommentedMap())
    shares = bases.setdefault(DoubleQuotedScalarString(edit.base), CommentedSeq())
    mine = next((index for index, share in enumerate(shares) if share["prompt"] == edit.share.prompt), 0)
    for index in reversed(range(len(shares))):
        if index != mine:
            del shares[index]
    _put(shares, 0, edit.share, weight=1)
    _leave(tree, edit.share.prompt)


def _canary(tree: CommentedMap, edit: Edit) -> None:
    shares = tree.get("bases", {}).get(edit.base, ())
    others = [share for share in shares if share["prompt"] != edit.share.prompt]
    if not others:
        raise InvalidRequest(
            "A canary needs a prompt beside it on the same base model.",
            where=f"base {edit.base[:12]}",
            hint="Leave out --weight, so that this version serves alone on this base model.",
        )
    *rest, mine = _weights([int(share.get("weight", 1)) for share in others], edit.percent)
    for share, weight in zip(others, rest, strict=True):
        _set(share, "weight", weight)
    place = next((index for index, share in enumerate(shares) if share["prompt"] == edit.share.prompt), len(shares))
    _put(shares, place, edit.share, weight=mine)
    _leave(tree, edit.share.prompt)


def _weights(others: Sequence[int], percent: int) -> list[int]:
    """Weights that give the last one `percent` of a whole and leave the others their proportions; percent where that is exact."""
    total = sum(others)
    weights = [weight * (100 - percent) for weight in others] + [total * percent]
    divisor = math.gcd(*weights)
    weights = [weight // divisor for weight in weights]
    if 100 % sum(weights) == 0:
        weights = [weight * (100 // sum(weights)) for weight in weights]
    if max(weights) > MOST_WEIGHT:
        raise InvalidRequest("The weights beside a canary are too odd to be divided.", actual=str(list(others)))
    return weights


def _shadow(tree: CommentedMap, edit: Edit) -> None:
    if edit.share.prompt in (share["prompt"] for share in tree.get("bases", {}).get(edit.base, ())):
        raise InvalidRequest("This version serves already, so it cannot be its own shadow.", where=edit.share.prompt)
    shares = tree.setdefault("shadow", CommentedSeq())
    place = next((index for index, share in enumerate(shares) if share["prompt"] == edit.share.prompt), len(shares))
    _put(shares, place, edit.share, weight=1)


def _leave(tree: CommentedMap, prompt: str) -> None:
    """A prompt that serves is no shadow any more."""
    shares = tree.get("shadow", ())
    for index in reversed(range(len(shares))):
        if shares[index]["prompt"] == prompt:
            del shares[index]
    if "shadow" in tree and not tree["shadow"]:
        del tree["shadow"]


def _put(shares: CommentedSeq, place: int, share: DesiredShare, *, weight: int) -> None:
    if place == len(shares):
        shares.append(CommentedMap())
    entry = shares[place]
    _set(entry, "prompt", DoubleQuotedScalarString(share.prompt))
    _set(entry, "approval", DoubleQuotedScalarString(share.approval))
    if weight != 1:
        _set(entry, "weight", weight)
    else:
        entry.pop("weight", None)
    if share.model_version:
        _set(entry, "model_version", DoubleQuotedScalarString(share.model_version))
    else:
        entry.pop("model_version", None)


def _set(entry: CommentedMap, key: str, value: Any) -> None:
    if entry.get(key) != value:
        entry[key] = value


def _writer(text: str) -> YAML:
    """A writer that gives back a file as it was, if any way of indenting does; else the one that changes least."""
    found = []
    for indent in _INDENTS:
        yaml = _yaml(text, *indent)
        again = _dump(yaml, yaml.load(text))
        if again == text:
            return yaml
        changes = difflib.ndiff(text.splitlines(), again.splitlines())
        found.append((sum(line[0] in "+-" for line in changes), indent))
    return _yaml(text, *min(found)[1])


def _yaml(text: str, mapping: int, sequence: int, offset: int) -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.explicit_start = any(line.startswith("---") for line in text.splitlines()) or None
    yaml.indent(mapping=mapping, sequence=sequence, offset=offset)
    return yaml


def _dump(yaml: YAML, tree: CommentedMap) -> str:
    out = StringIO()
    yaml.dump(tree, out)
    return out.getvalue()


def _checked(yaml: YAML, tree: CommentedMap, source: str) -> str:
    text = _dump(yaml, tree)
    read_yaml(text, Desired, source=source)
    return text
