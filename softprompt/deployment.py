"""Settings become what a machine works with: a channel's reader, and on a laptop an S3 server and a channel of its own.

The library below takes stores and paths; this is where the environment's settings become such things. It runs where neither
torch nor pyarrow is, as the reconciler's image does; what a run asks of its channel is `softprompt.run_channel`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from softprompt.embedded.s3 import embedded_s3
from softprompt.errors import InvalidRequest
from softprompt.release.care.init_channel import ROOT_KEY_FILE, allow_audit, init_channel
from softprompt.release.planning.policy import LAPTOP_POLICY, POLICY_FILE
from softprompt.release.reader import Reader
from softprompt.release.store import S3Store, open_store
from softprompt.release.trust import load_trust_root
from softprompt.settings import Settings

LAPTOP_CHANNEL = "laptop"


@contextmanager
def laptop(settings: Settings) -> Iterator[None]:
    """Stand in for what a cluster has: an S3 server and a channel with its keys, unless settings name real ones.

    Child processes find the server through the usual AWS variables.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with embedded_s3(settings.home / "s3") if settings.uses_embedded_store else nullcontext() as server:
        before = dict(os.environ)
        os.environ["SOFTPROMPT_HOME"] = str(settings.home)
        if server:
            os.environ.update(server.environment())
            _begin_laptop_channel(settings)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def channel_reader(settings: Settings, channel: str, store: S3Store | None = None, *, base_fingerprint: str = "") -> Reader:
    """A reader of a channel with this machine's trust root and state.

    Raises:
        InvalidRequest: There is no trust root, or it does not know the channel.
    """
    if not settings.trust_root.is_file():
        raise InvalidRequest(
            "There is no trust root on this machine, so no channel can be believed.",
            where=str(settings.trust_root),
            hint="On a laptop `softprompt demo` makes one; elsewhere set SOFTPROMPT_TRUST_ROOT.",
        )
    return Reader(
        store=store or open_store(settings.store),
        channel=channel,
        trust=load_trust_root(settings.trust_root),
        state_dir=settings.node_state,
        base_fingerprint=base_fingerprint,
    )


def _begin_laptop_channel(settings: Settings) -> None:
    policy = settings.policies / LAPTOP_CHANNEL / POLICY_FILE
    if not policy.exists():
        policy.parent.mkdir(parents=True, exist_ok=True)
        policy.write_text(LAPTOP_POLICY)
    if not settings.trust_root.is_file() or not settings.may_sign(LAPTOP_CHANNEL):
        init_channel(LAPTOP_CHANNEL, store=open_store(settings.store), keys_dir=settings.keys, trust_root=settings.trust_root)
    if not settings.audit_key(LAPTOP_CHANNEL).is_file() and (settings.keys / ROOT_KEY_FILE).is_file():
        allow_audit(LAPTOP_CHANNEL, keys_dir=settings.keys, trust_root=settings.trust_root, holder="this laptop")
