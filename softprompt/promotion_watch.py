"""`release apply --watch`: a reconciler for one channel, which follows a branch of a Git remote."""

import time
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

from softprompt.promotion import Applied, apply
from softprompt.release.channel import ChannelLog, newest
from softprompt.release.layout import RENEW_SECONDS
from softprompt.release.promotion.checkout import Checkout, without_credentials
from softprompt.release.promotion.git_access import authenticates
from softprompt.release.promotion.health import Health, Seen, health_server
from softprompt.release.promotion.mirror import Mirror
from softprompt.release.promotion.propose import ENVIRONMENTS
from softprompt.release.promotion.watch import watch
from softprompt.release.statement import Generation, parse_time
from softprompt.release.store import open_store
from softprompt.release.trust import load_trust_root
from softprompt.settings import Settings
from softprompt.trusted import newest_trust_root

if TYPE_CHECKING:
    from collections.abc import Callable

FULL_LOOK_SECONDS = 3600.0
"""Even if neither Git nor the channel has moved, everything is checked again this often."""


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """What a reconciler follows, and where it answers."""

    channel: str
    remote: str
    """Address of the promotion repository."""
    branch: str = "main"
    interval_seconds: float = 30.0
    host: str = "127.0.0.1"
    port: int = 8080


def watch_channel(settings: Settings, options: WatchOptions, stop: Event, tell: "Callable[[str], None]") -> None:
    """Reconcile until told to stop.

    Args:
        settings: Where store, trust root, key and registry are; the clone lies in its home.
        options: What to follow.
        stop: Set to end it; the round in progress is finished first.
        tell: Gets a line whenever something is news.
    """
    load_trust_root(settings.trust_root)  # without it no round can ever succeed, so that ends it at once
    health = Health(options.channel)
    rounds = _Rounds(settings, options)
    with health_server(health, options.host, options.port) as port:
        if not authenticates(options.remote):
            tell(f"warning: {without_credentials(options.remote)} does not prove who it is; use https:// or SSH")
        tell(f"following {options.branch} for channel {options.channel}; health on http://{options.host}:{port}/readyz")
        watch(rounds.look, health, stop, interval_seconds=options.interval_seconds, tell=tell)
    tell("ended")


@dataclass
class _Rounds:
    """Rounds, and what the last full one saw, so that nothing is read twice while nothing moves."""

    settings: Settings
    options: WatchOptions
    mirror: Mirror = field(init=False)
    last: Seen | None = None
    last_full: float = 0.0

    def __post_init__(self) -> None:
        folder = self.settings.home / "reconciler" / self.options.channel
        self.mirror = Mirror(self.options.remote, self.options.branch, folder, self.settings.git_credentials)

    def look(self) -> Seen:
        environments = self.mirror.update() / ENVIRONMENTS
        commit = Checkout(environments).git("rev-parse", "HEAD")
        if self.last is None or not self._in_step(self.last, commit, self._newest()):
            self.last = None  # whatever happens now, the next round looks at everything again
            self.last = _seen(apply(self.settings, environments, self.options.channel), commit)
            self.last_full = time.time()
        return self.last

    def _newest(self) -> Generation:
        store = open_store(self.settings.store)
        return newest(ChannelLog(store, self.options.channel, newest_trust_root(self.settings, store))).signed.generation

    def _in_step(self, last: Seen, commit: str, head: Generation) -> bool:
        now = time.time()
        fresh = now - parse_time(head.created) <= RENEW_SECONDS and now - self.last_full < FULL_LOOK_SECONDS
        done = last.outcome != "refused" and not last.problems
        return done and fresh and (last.commit, last.generation) == (commit, head.generation)


def _seen(applied: Applied, commit: str) -> Seen:
    outcome = applied.outcome
    return Seen(
        outcome=outcome.outcome,
        generation=applied.head.generation,
        commit=commit,
        expires=parse_time(applied.head.expires),
        reasons=outcome.reasons,
        problems=applied.problems,
        num_proposals=len(applied.waiting),
    )
