"""The care of channels on this machine: settings become stores, trust roots and keys, and the release library does the rest."""

import time
from collections.abc import Sequence
from pathlib import Path

from softprompt.errors import InvalidRequest
from softprompt.registry_release import version_facts
from softprompt.release.audit.log import AuditLog
from softprompt.release.audit.report import examine_audit
from softprompt.release.care.gc import Collection, collect_garbage
from softprompt.release.care.history import History, read_history
from softprompt.release.care.init_channel import InitOutcome, init_channel
from softprompt.release.care.restore import Restored, restore_channel
from softprompt.release.care.revoke import as_patch, edits_to_revoke, revoke_and_publish
from softprompt.release.care.trace import Sources, Trace, trace_prompt
from softprompt.release.care.verify_store import Verification, verify_store
from softprompt.release.channel import ChannelLog
from softprompt.release.planning.policy import read_policy
from softprompt.release.promotion.checkout import run_git
from softprompt.release.promotion.commit_source import CommitSource
from softprompt.release.publisher import Published
from softprompt.release.signers import KeySource, open_signer
from softprompt.release.store import open_store
from softprompt.release.trust import load_trust_root
from softprompt.settings import Settings
from softprompt.trusted import newest_trust_root


def init(settings: Settings, channel: str, *, signing_key: KeySource | None, root_life_days: int) -> InitOutcome:
    """Keys, trust root and generation 1 of a channel. Arguments and errors as `init_channel` has them."""
    return init_channel(
        channel,
        store=open_store(settings.store),
        keys_dir=settings.keys,
        trust_root=settings.trust_root,
        signing_key=signing_key or settings.signer.replace("{channel}", channel) or None,
        root_life_days=root_life_days,
    )


def channel_log(settings: Settings, channel: str) -> ChannelLog:
    """A channel by the newest trust root. InvalidRequest: the root does not know it."""
    store = open_store(settings.store)
    return ChannelLog(store, channel, newest_trust_root(settings, store))


def history(settings: Settings, channel: str, most: int) -> History:
    """What a channel has served. Arguments and errors as `read_history` has them."""
    return read_history(channel_log(settings, channel), most=most)


def trace(settings: Settings, channel: str, digest: str, environments: Path, *, asks_registry: bool) -> Trace:
    """Where a prompt comes from.

    Args:
        settings: Where store, trust root and registry are.
        channel: That serves it, or did.
        digest: The prompt's, or how it begins.
        environments: Folder of the channels in a checkout; asked if it is one.
        asks_registry: Whether to ask MLflow, too.

    Raises:
        InvalidRequest: The channel has never served it.
        StoreUnavailable, TrackingUnavailable: A service does not answer.
    """
    log = channel_log(settings, channel)
    is_checkout = environments.is_dir() and run_git(environments, "rev-parse", "HEAD").returncode == 0
    sources = Sources(
        audit=examine_audit(AuditLog(log.store, channel, log.trust)),
        commits=CommitSource(environments) if is_checkout else None,
        registry=(lambda name, version: version_facts(settings.tracking_uri, name, version)) if asks_registry else None,
        registry_uri=settings.tracking_uri.split("@")[-1],
    )
    return trace_prompt(log, digest, sources)


def revoke(settings: Settings, channel: str, digest: str, environments: Path) -> Published | str:
    """Revoke a prompt, as the channel's policy says who may.

    Args:
        settings: Where store, trust root and key are.
        channel: Name.
        digest: The prompt's.
        environments: Folder of the channels; in a checkout where Git is the authority.

    Returns:
        What was published; or, where Git is the authority, the edit to merge as a patch (empty: the files say it already).

    Raises:
        InvalidRequest: No policy, or no key.
        StoreUnavailable, PublishUnknown: As `Publisher.publish` does.
    """
    if read_policy(environments, channel).authority == "git":
        root = Path(run_git(environments, "rev-parse", "--show-toplevel").stdout.strip() or environments)
        return as_patch(edits_to_revoke(environments.resolve(), channel, digest), root.resolve())
    signer = open_signer(settings.signing_key(channel))
    log = channel_log(settings, channel)
    return revoke_and_publish(log, environments, digest, signer=signer, state_dir=settings.journal)


def restore(settings: Settings, source: str, target: str, channel: str) -> Restored:
    """Copy a channel from one store into another. Errors as `restore_channel` has them."""
    if source.rstrip("/") == target.rstrip("/"):
        raise InvalidRequest("A channel is restored into another store.", where=source)
    return restore_channel(open_store(source), open_store(target), channel, load_trust_root(settings.trust_root))


def verify(settings: Settings, channels: Sequence[str]) -> Verification:
    """Verify everything in the store. Arguments and errors as `verify_store` has them."""
    mounted = load_trust_root(settings.trust_root)
    store = open_store(settings.store)
    known = newest_trust_root(settings, store) if not channels else None
    return verify_store(store, mounted, channels or sorted(known.channels if known else ()), now=time.time())


def gc(settings: Settings, *, delete: bool, kept_generations: int, kept_days: int, grace_days: int) -> Collection:
    """Take away blobs that nothing names. Arguments and errors as `collect_garbage` has them."""
    store = open_store(settings.store)
    return collect_garbage(
        store,
        newest_trust_root(settings, store),
        delete=delete,
        kept_generations=kept_generations,
        kept_seconds=kept_days * 24 * 3600,
        grace_seconds=grace_days * 24 * 3600,
    )
