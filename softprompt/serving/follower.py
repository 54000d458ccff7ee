"""Follow one channel: look for a newer generation, prepare it, swap one reference.

A generation becomes active only after its pinned prompts are warm here, and a request keeps the generation with which it
started, so a swap makes nobody wait. A bad update never evicts the good one.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal

from softprompt.errors import InvalidRequest, SoftpromptError
from softprompt.numerics import Numerics
from softprompt.release.reader import Reader
from softprompt.release.snapshot import Alarm, Snapshot
from softprompt.serving.routing import Route, everything, names_on, route

_log = logging.getLogger(__name__)


class Follower:
    """Keeps the newest believed generation of a channel; `refresh` is for one thread at a time, everything else for any.

    Args:
        reader: Of the channel.
        base_fingerprint: The base model that runs here.
        numerics: Number format that the base is loaded in; empty: not this follower's business.
        pin: Makes prompts of a generation ready to answer and keeps them so; called before the generation becomes active.
        on_alarms: Told of alarms that were not there at the look before.

    Raises:
        StoreUnavailable, VerificationFailed: There is nothing to serve.
        SoftpromptError: What is there cannot be served here.
    """

    def __init__(
        self,
        reader: Reader,
        base_fingerprint: str,
        *,
        numerics: Numerics | Literal[""] = "",
        pin: Callable[[Sequence[str], Snapshot], None] = lambda *_: None,
        on_alarms: Callable[[tuple[Alarm, ...]], None] = lambda _: None,
    ) -> None:
        self._reader, self.base_fingerprint, self._numerics = reader, base_fingerprint, numerics
        self._pin, self._on_alarms = pin, on_alarms
        self._one_at_a_time = threading.Lock()
        self.snapshot: Snapshot = reader.refresh(self._prepare)
        self.looked_at = time.monotonic()
        self._on_alarms(self.snapshot.alarms)
        self._prepare(self.snapshot)  # one that was kept from before

    def refresh(self) -> None:
        """Look for a newer generation; what fails leaves the snapshot as it is."""
        with self._one_at_a_time:
            before = self.snapshot
            try:
                self.snapshot = self._reader.refresh(self._prepare)
            except SoftpromptError as error:
                _log.warning("looking for a newer generation failed", extra={"fault": error.what})
                return
            if not any(alarm.reason == "store" for alarm in self.snapshot.alarms):
                self.looked_at = time.monotonic()
        self._tell(before)

    @property
    def seconds_since_look(self) -> float:
        """Since the store answered a look for a newer generation: what is served may be older by that."""
        return time.monotonic() - self.looked_at

    @property
    def names(self) -> list[str]:
        """Prompts that can be asked for on this base, sorted."""
        return names_on(self.snapshot, self.base_fingerprint)

    def route(self, model: str, *, may_ask: Callable[[str], bool] = everything, sticky: str = "") -> Route:
        """The prompt that a request means now; see `routing.route`."""
        return route(model, self.snapshot, self.base_fingerprint, may_ask=may_ask, sticky=sticky)

    def pinned(self, snapshot: Snapshot) -> list[str]:
        """Digests that are warm before a generation is active here: those of its pinned names on this base."""
        names = names_on(snapshot, self.base_fingerprint)
        found = (snapshot.prompts[name] for name in names)
        return [share.prompt for served in found if served.pinned for share in served.bases[self.base_fingerprint]]

    def _prepare(self, snapshot: Snapshot) -> None:
        allowed = snapshot.statement.state.numerics
        if self._numerics and allowed and self._numerics not in allowed:
            raise InvalidRequest(
                "The channel's prompts were not measured in the number format that this node uses.",
                where=f"channel {snapshot.statement.channel}, generation {snapshot.generation}",
                expected=" or ".join(allowed),
                actual=self._numerics,
                hint=f"Serve with --dtype {allowed[0]}.",
            )
        self._pin(self.pinned(snapshot), snapshot)

    def _tell(self, before: Snapshot) -> None:
        new = tuple(alarm for alarm in self.snapshot.alarms if alarm not in before.alarms)
        for alarm in new:
            _log.warning("alarm", extra={"alarm": str(alarm), "reason": alarm.reason})
        if new:
            self._on_alarms(new)
        if self.snapshot.generation != before.generation:
            _log.info("a generation is active", extra={"generation": self.snapshot.generation})
