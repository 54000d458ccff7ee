"""Follow a channel: find and check the newest generation, hand out what it serves, and never lose the last good one.

What a node needs to go on lies in its state folder: the envelope it activated last (whose number is the high-water
mark: it never activates an older one), the links of the trust root that it has followed, and the verified blobs. So it starts
without the store, and says that what it serves is stale. A bad update raises an alarm and changes nothing, except that a prompt
which the newest signed generation revokes is refused at once, even where that generation cannot be activated.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from softprompt.artifact import Sha256
from softprompt.documents import Document
from softprompt.errors import InvalidRequest, SoftpromptError, StoreUnavailable, VerificationFailed
from softprompt.names import Name
from softprompt.release.blobs import Blobs, at_once
from softprompt.release.channel import ChannelLog, Missing, Signed, verify_generation
from softprompt.release.durable import read_if_there, write_durably
from softprompt.release.layout import CLOCK_SKEW_SECONDS, MAX_ENVELOPE_BYTES
from softprompt.release.roots import RootChain
from softprompt.release.snapshot import Alarm, AlarmReason, Snapshot
from softprompt.release.statement import Generation, format_time, parse_time
from softprompt.release.store import ObjectStore
from softprompt.release.trust import TrustRoot


class _Remembered(Document):
    """What a node keeps of the generation that it activated last."""

    max_bytes = 2 * MAX_ENVELOPE_BYTES

    channel: Name
    generation: int
    envelope: str
    revoked: tuple[Sha256, ...] = ()
    """What a newer generation revokes that could not be activated."""


@dataclass(frozen=True)
class _Checked:
    """What is worth knowing of a prompt that this process has verified.

    Attributes:
        base_fingerprint: What it was trained on.
        tensor: sha256 of its tensor.
    """

    base_fingerprint: str
    tensor: str


class Reader:
    """Follows one channel for one node; for one thread at a time.

    Args:
        store: Where the channel lies.
        channel: Name.
        trust: Whom to believe to begin with; newer versions are followed in the store.
        state_dir: The node's own folder.
        base_fingerprint: The base model that the node serves; empty: all (a tool, not a node).
        clock: Seconds since 1970.

    Raises:
        InvalidRequest: The trust root does not know the channel.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        channel: str,
        trust: TrustRoot,
        state_dir: Path,
        base_fingerprint: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        trust.channel(channel)
        self._roots = RootChain(trust, state_dir / f"{channel}.roots")
        self._log = ChannelLog(store, channel, self._roots.root)
        self._blobs = Blobs(store, state_dir / "blobs")
        self._file = state_dir / f"{channel}.active.json"
        self._base, self._clock = base_fingerprint, clock
        self._checked: dict[str, _Checked] = {}
        self._active: Signed | None = None
        self._high_water, self._restored_alarms = 0, list[Alarm]()
        self._revoked, self._disbelieved = frozenset[str](), ""
        self._restore()

    def refresh(self, prepare: Callable[[Snapshot], None] | None = None) -> Snapshot:
        """Look for a newer generation, and return what to serve now.

        Args:
            prepare: What the node does with a generation before it is activated; if it raises a SoftpromptError, the generation
                is not activated.

        Raises:
            StoreUnavailable: There is nothing to serve, because the store does not answer.
            VerificationFailed: There is nothing to serve, because nothing verifies.
        """
        alarms = list(self._restored_alarms)
        newest_active = self._update(alarms, prepare)
        if self._active is None:
            raise VerificationFailed(
                "The channel has no generation that this node may serve.",
                where=f"{self._log.store.uri}, channel {self._log.channel}",
                actual="\n".join(alarms) or "no generation",
                hint="Publish to it, or check store, trust root and clock.",
            )
        statement = self._active.generation
        expired = self._clock() > parse_time(statement.expires) + CLOCK_SKEW_SECONDS
        if expired:
            text = f"Generation {statement.generation} expired at {statement.expires}, and there is no newer one to serve."
            alarms.append(Alarm(text, "expired"))
        if self._disbelieved:
            text = f"Generation {statement.generation} is served and not believed any more: publish again. {self._disbelieved}"
            alarms.append(Alarm(text, "root"))
        if revoked := self._revoked & statement.state.digests:
            text = f"Generation {statement.generation} serves what a newer one revokes, so it is refused: {_listed(revoked)}."
            alarms.append(Alarm(text, "revoked"))
        stale = expired or not newest_active or bool(self._disbelieved)
        return Snapshot(statement, stale, tuple(alarms), self._blobs, revoked)

    def _update(self, alarms: list[Alarm], prepare: Callable[[Snapshot], None] | None) -> bool:
        """Activate what is newer; whether the newest is what is active now."""
        try:
            is_believable = self._follow_roots(alarms)
            newest, certain = self._newest(alarms)
        except StoreUnavailable as error:
            if self._active is None:
                raise
            alarms.append(Alarm(f"The store does not answer, so there may be a newer generation. {_line(error)}", "store"))
            return False
        if newest is None:
            return is_believable and certain
        if not is_believable:
            return False
        return self._try(newest, alarms, prepare) and certain

    def _try(self, newest: Signed, alarms: list[Alarm], prepare: Callable[[Snapshot], None] | None) -> bool:
        """Activate a generation that verifies, if nothing else speaks against it; whether it is active now."""
        generation = newest.generation
        reason: AlarmReason = "time"
        try:
            self._check_times(generation)
            reason = "base"
            self._check_base(generation)
            reason = "prompt"
            self._check_prompts(generation)
            reason = "node"
            if prepare:
                prepare(Snapshot(generation, stale=False, alarms=(), _blobs=self._blobs))
            reason = "disk"
            self._activate(newest)
        except SoftpromptError as error:  # a bad update never evicts the good one, whatever is bad about it
            reason = "store" if isinstance(error, StoreUnavailable) else reason
            alarms.append(Alarm(f"Generation {generation.generation} is not activated. {_line(error)}", reason))
            self._refuse(frozenset(generation.state.revoked), alarms)
            return False
        return True

    def _follow_roots(self, alarms: list[Alarm]) -> bool:
        """Take the newest trust root; whether anything new may be believed by it. StoreUnavailable: it cannot be asked for."""
        try:
            self._roots.follow(self._log.store)
        except VerificationFailed as error:
            alarms.append(Alarm(f"A newer trust root is not believed. {_line(error)}", "root"))
        root = self._roots.root
        if root is not self._log.trust:
            self._believe(root, alarms)
        if root.has_expired(self._clock()):
            text = (
                f"The trust root, version {root.version}, expired at {root.expires}; nothing new is believed until it is renewed."
            )
            alarms.append(Alarm(text, "root"))
            return False
        return root.version >= self._roots.newest_known

    def _believe(self, root: TrustRoot, alarms: list[Alarm]) -> None:
        """Look at the channel, and at what is active, with the eyes of a newer trust root."""
        try:
            self._log = ChannelLog(self._log.store, self._log.channel, root)
        except InvalidRequest as error:
            text = f"The trust root, version {root.version}, does not know this channel any more. {_line(error)}"
            alarms.append(Alarm(text, "root"))
            return
        self._disbelieved = ""
        if self._active:
            try:
                self._verify_here(self._active.data, self._active.generation.generation)
            except VerificationFailed as error:
                self._disbelieved = _line(error)

    def _verify_here(self, data: bytes, number: int) -> Generation:
        """What was activated here is still believed when its key was revoked after it."""
        trust, channel = self._log.trust, self._log.channel
        return verify_generation(data, number=number, channel=channel, trust=trust, source=str(self._file), history=True)

    def _refuse(self, revoked: frozenset[str], alarms: list[Alarm]) -> None:
        """Refuse prompts from now on, also after a restart; a full disk is no reason to go on with them."""
        if revoked == self._revoked or self._active is None:
            return
        self._revoked = revoked
        try:
            self._remember(self._active, revoked)
        except InvalidRequest as error:
            alarms.append(Alarm(f"What is refused now is not kept for the next start. {_line(error)}", "disk"))

    def _newest(self, alarms: list[Alarm]) -> tuple[Signed | None, bool]:
        """The newest generation above the high-water mark that verifies, and whether that is certain; bad ones are named."""
        newest, missing = None, 0
        known = {self._active.generation.generation: self._active.digest} if self._active else {}
        # Without an active one, the one at the mark may be taken again: it was good, but its local copy is not.
        numbers = self._log.numbers(after=max(self._floor(), self._high_water - (self._active is None)))
        # Who has none to hold a history against needs no history: the newest that verifies is found from above.
        for number in numbers if self._active else reversed(numbers):
            try:
                signed = self._log.read(number, known=known, history=True)
                known[number] = signed.digest
                newest = newest if self._log.is_history(signed) else signed
            except VerificationFailed as error:
                alarms.append(Alarm(f"Generation {number} does not verify and is passed over. {_line(error)}", "envelope"))
                missing = max(missing, number) if isinstance(error, Missing) else missing
                continue
            if newest is not None and self._active is None:
                break
        return newest, missing <= (newest.generation.generation if newest else 0)

    def _floor(self) -> int:
        return self._log.trust.channel(self._log.channel).minimum_generation - 1

    def _check_times(self, generation: Generation) -> None:
        now = self._clock()
        if now > parse_time(generation.expires) + CLOCK_SKEW_SECONDS:
            raise VerificationFailed("It has expired.", expected=f"before {generation.expires}", actual=format_time(now))
        if now < parse_time(generation.created) - CLOCK_SKEW_SECONDS:
            raise VerificationFailed(
                "It is from the future; the clock here or there is wrong.",
                expected=f"after {generation.created}",
                actual=format_time(now),
            )

    def _check_base(self, generation: Generation) -> None:
        prompts = generation.state.prompts
        if self._base and prompts and not any(self._base in served.bases for served in prompts.values()):
            raise VerificationFailed("It has no prompt for this node's base model.", expected=self._base)

    def _check_prompts(self, generation: Generation) -> None:
        """Fetch what this node needs, a few at a time, and check it.

        What this process has checked and still keeps is not read again: of a thousand prompts, a new generation changes one.
        """
        wanted: dict[tuple[str, str], None] = {}
        for served in generation.state.prompts.values():
            for base, shares in served.bases.items():
                if self._base in ("", base):
                    wanted |= {(share.prompt, base): None for share in shares}
            wanted |= {(digest, ""): None for digest in (*served.shadow, *served.pinnable)}
        digests, kept = dict.fromkeys(digest for digest, _ in wanted), self._blobs.kept()
        before = ((digest, self._checked.get(digest)) for digest in digests)
        self._checked = {digest: found for digest, found in before if found and {digest, found.tensor} <= kept}
        at_once(self._check_prompt, [digest for digest in digests if digest not in self._checked])
        for digest, base in wanted:
            self._check_listing(digest, base)

    def _check_prompt(self, digest: str) -> None:
        manifest = self._blobs.prompt(digest).manifest
        self._checked[digest] = _Checked(manifest.base_fingerprint, manifest.parts[0].sha256)

    def _check_listing(self, digest: str, base: str) -> None:
        """Whether a prompt is listed under its own base model; an empty `base` lists it under none."""
        trained_on = self._checked[digest].base_fingerprint
        if base and trained_on != base:
            raise VerificationFailed(
                "A prompt is listed under another base model than its own.",
                where=f"prompt {digest}",
                expected=base,
                actual=trained_on,
            )

    def _activate(self, signed: Signed) -> None:
        self._blobs.flush()
        self._remember(signed, frozenset())
        self._active, self._high_water, self._restored_alarms = signed, signed.generation.generation, []
        self._revoked, self._disbelieved = frozenset(), ""

    def _remember(self, signed: Signed, revoked: frozenset[str]) -> None:
        remembered = _Remembered(
            channel=self._log.channel,
            generation=signed.generation.generation,
            envelope=signed.data.decode(),
            revoked=tuple(sorted(revoked)),
        )
        write_durably(self._file, remembered.to_bytes())

    def _restore(self) -> None:
        """Go on where this node left off; what does not verify any more is not served, but its number still counts."""
        written = read_if_there(self._file)
        if written is None:
            return
        source = str(self._file)
        try:
            remembered = _Remembered.from_bytes(written, source=source)
            self._high_water = remembered.generation
            data = remembered.envelope.encode()
            generation = self._verify_here(data, remembered.generation)
            self._check_prompts(generation)
            self._active, self._revoked = Signed(generation, data), frozenset(remembered.revoked)
        except SoftpromptError as error:
            self._restored_alarms.append(Alarm(f"What this node served last cannot be used. {_line(error)}", "kept_copy"))


def _listed(digests: frozenset[str]) -> str:
    return ", ".join(digest[:12] for digest in sorted(digests))


def _line(error: SoftpromptError) -> str:
    return " ".join(str(error).split())
