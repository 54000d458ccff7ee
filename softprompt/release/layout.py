"""Where things lie in the store, and how long they live.

    blobs/sha256/<hex>                                prompt file parts, manifests, evidence
    channels/<channel>/<generation, 12 digits>.json   signed generation; creating it is the commit
    audit/<channel>/<number, 12 digits>.json          signed review decision; numbered and chained like generations
    roots/<version, 12 digits>.json                   trust root, signed by the root key of the version before
    proposals/<channel>/<name>/<hex>.yaml             what a pipeline asks Git to take over
    probe/conditional-write                           one constant object, see `store.probe_conditional_writes`

Only keys of exactly these forms are believed: a server that was killed may list half-written files under other names.
"""

import re

from softprompt.documents import sha256_hex

LIFE_SECONDS = 7 * 24 * 3600
"""How long a generation is fresh after it was signed."""
RENEW_SECONDS = LIFE_SECONDS // 3
"""An unchanged state older than this is signed again when anything is published."""
CLOCK_SKEW_SECONDS = 5 * 60
"""How far the clocks of publishers and nodes may lie apart."""
GC_GRACE_SECONDS = 7 * 24 * 3600
"""How long a blob that no generation names is kept."""
RETENTION_SECONDS = 90 * 24 * 3600
"""How long what a channel served may come back without review and age limit: the window for rolling back."""
MAX_ENVELOPE_BYTES = 8 * 1024 * 1024
"""Largest envelope that is read: a statement in base64 and its signatures."""
LAST_NUMBER = 10**12 - 1

CHANNELS_PREFIX = "channels/"
BLOBS_PREFIX = "blobs/sha256/"
ROOTS_PREFIX = "roots/"

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_ROOT = re.compile(r"roots/([0-9]{12})\.json")
_GENERATION = re.compile(r"channels/([a-z0-9-]+)/([0-9]{12})\.json")
_AUDIT = re.compile(r"audit/([a-z0-9-]+)/([0-9]{12})\.json")
_PROPOSAL = re.compile(r"proposals/([a-z0-9-]{1,40})/([a-z0-9-]{1,40})/[0-9a-f]{64}\.yaml")


def blob_key(digest: str) -> str:
    """Key of the blob with this sha256."""
    return f"{BLOBS_PREFIX}{digest}"


def blob_digest(key: str) -> str:
    """The sha256 in a blob's key; empty for every other key."""
    match = _BLOB.fullmatch(key)
    return match[1] if match else ""


def root_key(version: int) -> str:
    """Key of one version of the trust root; alphabetical order is numerical order."""
    return f"{ROOTS_PREFIX}{version:012d}.json"


def root_version(key: str) -> int | None:
    """The version in a trust root's key; None for every other key."""
    match = _ROOT.fullmatch(key)
    return (int(match[1]) or None) if match else None


def channel_prefix(channel: str) -> str:
    """What the keys of all generations of a channel begin with."""
    return f"channels/{channel}/"


def channel_of(key: str) -> str:
    """The channel that a generation's key belongs to; empty for every other key."""
    match = _GENERATION.fullmatch(key)
    return match[1] if match else ""


def generation_key(channel: str, number: int) -> str:
    """Key of one generation; alphabetical order is numerical order."""
    return f"channels/{channel}/{number:012d}.json"


def generation_number(channel: str, key: str) -> int | None:
    """The number in a generation's key; None for every other key."""
    return _number(_GENERATION, channel, key)


def audit_prefix(channel: str) -> str:
    """What the keys of all review decisions of a channel begin with."""
    return f"audit/{channel}/"


def audit_key(channel: str, number: int) -> str:
    """Key of one review decision; alphabetical order is numerical order."""
    return f"audit/{channel}/{number:012d}.json"


def audit_number(channel: str, key: str) -> int | None:
    """The number in a review decision's key; None for every other key."""
    return _number(_AUDIT, channel, key)


def proposal_key(channel: str, name: str, text: bytes) -> str:
    """Key of a proposed `<name>.yaml`; the same text has the same key."""
    return f"proposals/{channel}/{name}/{sha256_hex(text)}.yaml"


def _number(form: re.Pattern[str], channel: str, key: str) -> int | None:
    match = form.fullmatch(key)
    number = int(match[2]) if match and match[1] == channel else 0
    return number or None


def proposals_prefix(channel: str, name: str = "") -> str:
    """What the keys of all proposals for a channel begin with, or of those for one name."""
    return f"proposals/{channel}/" + (f"{name}/" if name else "")


def proposal_of(channel: str, key: str) -> str | None:
    """The name that a proposal's key is for; None for every other key."""
    match = _PROPOSAL.fullmatch(key)
    return match[2] if match and match[1] == channel else None
