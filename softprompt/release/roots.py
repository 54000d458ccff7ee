"""From the trust root that is mounted on a machine to the newest one: version by version, each signed by the key before.

The versions lie in the store under `roots/`, so that a node that was away for a whole change of keys follows when it comes back.
What a machine has followed it keeps in a folder of its own, as the links themselves: they are verified from the mounted file
on at every start, so nobody who may write there can introduce a key, and the machine never falls back to an older version.
"""

from pathlib import Path

from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.release.durable import read_if_there, write_durably
from softprompt.release.layout import MAX_ENVELOPE_BYTES, root_key, root_version
from softprompt.release.store import ObjectStore
from softprompt.release.trust import TrustRoot, load_trust_root, verify_successor

MAX_LINKS = 10_000


class RootChain:
    """Follows the trust root; for one thread at a time.

    Args:
        mounted: Where trust begins on this machine.
        folder: Where the links that were followed are kept; None: nowhere.
    """

    def __init__(self, mounted: TrustRoot, folder: Path | None) -> None:
        self.root = mounted
        self._folder = folder
        self._kept = _versions_in(folder)
        self._follow_kept()

    @property
    def newest_known(self) -> int:
        """The newest version that this machine has ever followed; above `root.version` if a link to it was lost or changed."""
        return max([self.root.version, *self._kept])

    def follow(self, store: ObjectStore) -> TrustRoot:
        """The newest trust root: every further link that the store has, one after the other, each kept before it counts.

        An expired link leads on to the next one, as in TUF; whether the newest has expired is the caller's question.

        Raises:
            StoreUnavailable: The store does not answer.
            VerificationFailed: A link does not verify. `root` is the version before it.
        """
        for _ in range(MAX_LINKS):
            version = self.root.version + 1
            data = store.get(root_key(version), max_bytes=MAX_ENVELOPE_BYTES)
            if data is None:
                break
            root = verify_successor(data, self.root, source=f"{store.uri}, key {root_key(version)}")
            self._keep(version, data)
            self.root = root
        if self.newest_known > self.root.version:
            raise VerificationFailed(
                "This machine has followed the trust root to a newer version than it finds now.",
                where=f"{store.uri}, key {root_key(self.root.version + 1)}",
                expected=f"version {self.newest_known}",
                actual=f"version {self.root.version}",
                hint=f"Mount the newest trust root. If another one is meant, take away what was followed ({self._folder}).",
            )
        return self.root

    def _follow_kept(self) -> None:
        """Follow what was kept; a link that does not verify any more is asked of the store again."""
        while data := self._kept.get(self.root.version + 1):
            try:
                self.root = verify_successor(data, self.root, source=f"{self._folder}, version {self.root.version + 1}")
            except VerificationFailed:
                return

    def _keep(self, version: int, data: bytes) -> None:
        if self._folder:
            write_durably(self._folder / Path(root_key(version)).name, data)
            self._kept[version] = data


def current_trust_root(path: Path, store: ObjectStore, *, folder: Path | None, now: float) -> TrustRoot:
    """The newest trust root, for somebody who is about to sign or to check: nothing less will do.

    Args:
        path: The file mounted on this machine.
        store: Where further versions lie.
        folder: Where followed links are kept; None: nowhere.
        now: Seconds since 1970.

    Raises:
        InvalidRequest: There is no such file, or the newest version has expired.
        StoreUnavailable: The store does not answer.
        VerificationFailed: A version does not verify.
    """
    root = RootChain(load_trust_root(path), folder).follow(store)
    if root.has_expired(now):
        raise InvalidRequest(
            "The trust root has expired.",
            where=f"{path}, followed to version {root.version}",
            expected=f"before {root.expires}",
            hint="Let the holder of the root key run `softprompt release root renew` and `root publish`.",
        )
    return root


def _versions_in(folder: Path | None) -> dict[int, bytes]:
    found = {root_version(f"roots/{path.name}"): path for path in folder.glob("*.json")} if folder else {}
    return {version: read_if_there(path) or b"" for version, path in found.items() if version}
