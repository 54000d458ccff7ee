"""Find what a pipeline left in the store about a version: its approval, which a name's file names by digest.

Approvals are blobs, and blobs have no index. Two places name them: the proposals that pipelines leave where Git is the
authority, and the generations of every channel, old ones too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from softprompt.errors import InvalidRequest, SoftpromptError, VerificationFailed
from softprompt.release.blobs import Blobs
from softprompt.release.channel import ChannelLog
from softprompt.release.layout import proposal_of, proposals_prefix
from softprompt.release.planning.policy import Desired, DesiredShare
from softprompt.release.statement import Approval
from softprompt.release.store import ObjectStore
from softprompt.release.trust import TrustRoot
from softprompt.yaml_reader import MAX_YAML_BYTES, read_yaml


@dataclass(frozen=True)
class Proposal:
    """What a pipeline asks Git to take over."""

    channel: str
    name: str
    key: str
    desired: Desired
    text: str


@dataclass(frozen=True)
class Approved:
    """A version with what is needed to name it in a file."""

    share: DesiredShare
    base: str
    """Fingerprint of its base model."""
    approval: Approval
    found: str
    """Where, for people."""


def proposals(store: ObjectStore, channel: str, name: str = "") -> Iterator[Proposal]:
    """The proposals in the store for a channel, by name; what cannot be read as one is passed over: anybody may leave anything.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    for key in store.list(proposals_prefix(channel, name)):
        of = proposal_of(channel, key)
        if of is None or (name and of != name):
            continue
        try:
            text = (store.get(key, max_bytes=MAX_YAML_BYTES) or b"").decode()
            yield Proposal(channel, of, key, read_yaml(text, Desired, source=key), text)
        except (VerificationFailed, InvalidRequest, UnicodeDecodeError):
            continue


def find_approved(store: ObjectStore, trust: TrustRoot, name: str, version: str, prompt: str) -> Approved:
    """The newest approval of a version.

    Args:
        store: Where channels and proposals lie.
        trust: Whose channels are looked at.
        name: Prompt's name.
        version: In MLflow, as the approval says it.
        prompt: The version's prompt, by digest.

    Raises:
        InvalidRequest: No pipeline has put it into this store.
        VerificationFailed: What is there does not verify.
        StoreUnavailable: The store does not answer.
    """
    blobs = Blobs(store)
    found = {
        approval.digest: (approval, where)
        for approval, where in _approvals(store, trust, blobs, name, prompt)
        if approval.model_version == version
    }
    if not found:
        raise InvalidRequest(
            "The store has no approval of this version, so no file can name it.",
            where=f"{store.uri}, {name} version {version}, prompt {prompt}",
            hint="The pipeline's last step, publish_prompt, puts it there. Run it for a channel of this store, and look at its "
            "outcome: where that channel's policy refused the version, nothing was uploaded.",
        )
    approval, where = max(found.values(), key=lambda item: item[0].evaluated)
    manifest = blobs.prompt(prompt).manifest
    share = DesiredShare(prompt=prompt, approval=approval.digest, model_version=version)
    return Approved(share, manifest.base_fingerprint, approval, where)


def _approvals(store: ObjectStore, trust: TrustRoot, blobs: Blobs, name: str, prompt: str) -> Iterator[tuple[Approval, str]]:
    for channel in sorted(trust.channels):
        for proposal in proposals(store, channel, name):
            for share in proposal.desired.shares:
                if share.prompt == prompt:
                    data = blobs.read(share.approval, max_bytes=Approval.max_bytes)
                    yield Approval.from_bytes(data, source=f"approval {share.approval}"), proposal.key
    for channel in sorted(trust.channels):
        yield from _served_approvals(ChannelLog(store, channel, trust), name, prompt)


def _served_approvals(log: ChannelLog, name: str, prompt: str) -> Iterator[tuple[Approval, str]]:
    """From the newest generation that serves the prompt under this name."""
    for number in reversed(log.numbers()):
        try:
            state = log.read(number).generation.state
        except SoftpromptError:
            continue
        served = state.prompts.get(name)
        if served and prompt in served.digests:
            yield state.approvals[prompt], f"{log.channel} generation {number}"
            return
