"""Revoke a prompt: nothing serves it any more, whatever else says so.

The policy's list of revoked prompts is what makes it last, so that list is edited first, and every name is taken off the prompt.
Where Git is the authority that is an edit to review and merge. Where the pipeline is, the next generation is published at once.
Nodes refuse the prompt as soon as they have seen a signed generation that revokes it, even one that they cannot activate.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString
from securesystemslib.signer import Signer

from softprompt.errors import InvalidRequest
from softprompt.release.channel import ChannelLog
from softprompt.release.durable import write_durably
from softprompt.release.planning.facts import Change
from softprompt.release.planning.plan import Plan, plan_changes
from softprompt.release.planning.policy import POLICY_FILE, ChannelPolicy, read_desired, read_policy
from softprompt.release.promotion.desired_file import without_prompt
from softprompt.release.publisher import Published, Publisher
from softprompt.release.statement import Generation


@dataclass(frozen=True)
class FileEdit:
    """One file under `environments/`, before and after."""

    path: Path
    before: str
    after: str


def edits_to_revoke(environments: Path, channel: str, digest: str) -> tuple[FileEdit, ...]:
    """The edits that revoke a prompt in a channel's files: its policy, and every name that uses the prompt.

    A canary's other prompts stay; a name that is left with none is taken away.

    Raises:
        InvalidRequest: A file is missing or wrong.
    """
    policy = read_policy(environments, channel)
    edits = []
    if digest not in policy.revoked:
        path = environments / channel / POLICY_FILE
        edits.append(FileEdit(path, path.read_text(), _with_revoked(path.read_text(), digest)))
    names = read_desired(environments, channel) if policy.authority == "git" else {}
    for name, desired in names.items():
        if digest in (share.prompt for share in desired.shares):
            path = environments / channel / f"{name}.yaml"
            edits.append(FileEdit(path, path.read_text(), without_prompt(path.read_text(), digest, source=str(path))))
    return tuple(edits)


def as_patch(edits: tuple[FileEdit, ...], root: Path) -> str:
    """Edits in the form that `git apply` reads, run in the folder `root`."""

    def lines() -> Iterator[str]:
        for edit in edits:
            name = edit.path.relative_to(root).as_posix()
            for line in unified_diff(edit.before.splitlines(True), edit.after.splitlines(True), f"a/{name}", f"b/{name}"):
                yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"

    return "".join(lines())


def revoke_and_publish(
    log: ChannelLog,
    environments: Path,
    digest: str,
    *,
    signer: Signer,
    state_dir: Path,
    clock: Callable[[], float] = time.time,
) -> Published:
    """Revoke a prompt in a channel whose authority is the pipeline: in its policy first, then in a generation of its own.

    Args:
        log: The channel.
        environments: Holds `<channel>/_policy.yaml`, which is edited.
        digest: The prompt's.
        signer: A key that the trust root allows for it.
        state_dir: For journals.
        clock: Seconds since 1970.

    Raises:
        InvalidRequest: The policy cannot be edited, or gives Git the authority.
        StoreUnavailable, PublishUnknown: As `Publisher.publish` does. The policy is edited; run it again.
    """
    policy = read_policy(environments, log.channel)
    if policy.authority != "pipeline":
        raise InvalidRequest(
            "Git has the authority over this channel.", where=log.channel, hint="Merge the edit, and apply it as any other."
        )
    for edit in edits_to_revoke(environments, log.channel, digest):
        write_durably(edit.path, edit.after.encode())
    policy = read_policy(environments, log.channel)

    def decide(head: Generation) -> Plan:
        return _plan(head, policy, digest, clock())

    return Publisher(log=log, signer=signer, state_dir=state_dir, clock=clock).publish(decide, blobs={})


def _plan(head: Generation, policy: ChannelPolicy, digest: str, now: float) -> Plan:
    changes = [Change(name, served.without({digest})) for name, served in head.state.prompts.items() if digest in served.digests]
    return plan_changes(head.state, changes, {}, policy, now=now)


def _with_revoked(text: str, digest: str) -> str:
    """A policy's text with one more revoked prompt; people's comments and order stay."""
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    tree = yaml.load(text)
    tree["revoked"] = [*(tree.get("revoked") or ()), DoubleQuotedScalarString(digest)]
    out = StringIO()
    yaml.dump(tree, out)
    return out.getvalue()
