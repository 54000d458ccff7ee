"""Whom this machine believes now: its mounted trust root, followed to the newest version in the store."""

import time

from softprompt.release.roots import current_trust_root
from softprompt.release.store import ObjectStore
from softprompt.release.trust import TrustRoot
from softprompt.settings import Settings


def newest_trust_root(settings: Settings, store: ObjectStore) -> TrustRoot:
    """The newest trust root; the links to it are kept beside the journals.

    Raises:
        InvalidRequest: There is none here, or the newest version has expired.
        StoreUnavailable: The store does not answer.
        VerificationFailed: A version does not verify.
    """
    return current_trust_root(settings.trust_root, store, folder=settings.journal / "roots", now=time.time())
