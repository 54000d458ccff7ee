"""A channel with as many publishers and nodes as a test wants, and what must be true of it whatever happens to them.

The checks read the store by themselves (`json`, `hashlib`, `cryptography`), so that they do not share a fault with the code.
"""

import base64
import functools
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import CryptoSigner

from softprompt.artifact import PromptFile
from softprompt.release.blobs import prompt_blobs
from softprompt.release.channel import ChannelLog
from softprompt.release.planning.plan import Change, Plan, PromptFacts, plan_changes
from softprompt.release.planning.policy import ChannelPolicy
from softprompt.release.publisher import Published, Publisher
from softprompt.release.reader import Reader
from softprompt.release.statement import Approval, ChannelState, Generation, Served, Share
from softprompt.release.store import ObjectStore
from softprompt.release.trust import ChannelTrust, LastGood, PublicKey, PublishingKey, TrustRoot
from tests.prompts import BASE, random_prompt_file

CHANNEL = "staging"
NOW = 1_800_000_000.0
POLICY = ChannelPolicy(schema_version=1, authority="pipeline")
PREFIX = f"channels/{CHANNEL}/"


@functools.cache
def prompt(seed: int, base: str = BASE) -> PromptFile:
    """The smallest prompt file; each seed another one."""
    return random_prompt_file(seed, num_tokens=1, width=2, base=base)


def approval(file: PromptFile) -> Approval:
    """What the pipeline says of a prompt."""
    return Approval(prompt=file.digest, verdict="passed", numerics="float32", model_version="", evidence={})


def decision(name: str, file: PromptFile) -> Callable[[Generation], Plan]:
    """Let a name mean one prompt."""
    fact = PromptFacts(file.digest, "shallow", file.manifest.base_fingerprint, approval(file), "")
    served = Served(bases={file.manifest.base_fingerprint: (Share(prompt=file.digest),)})

    def decide(head: Generation) -> Plan:
        return plan_changes(head.state, [Change(name, served)], {file.digest: fact}, POLICY, now=NOW)

    return decide


@dataclass
class World:
    """One channel, begun."""

    store: Any
    """A `MemoryStore` or an `S3Store`."""
    folder: Path
    now: float = NOW
    root_signer: CryptoSigner = field(default_factory=CryptoSigner.generate_ed25519)
    signers: list[CryptoSigner] = field(default_factory=lambda: [CryptoSigner.generate_ed25519() for _ in range(2)])
    trust: TrustRoot = field(init=False)

    def __post_init__(self) -> None:
        keys = {signer.public_key.keyid: _publishing_key(signer) for signer in self.signers}
        root = self.root_signer.public_key
        self.trust = TrustRoot(
            version=1,
            root_key_id=root.keyid,
            root_key=PublicKey.of(root),
            channels={CHANNEL: ChannelTrust(id="c0" * 16), "production": ChannelTrust(id="d0" * 16)},
            publishing_keys=keys,
        )
        self.publisher("init").begin(ChannelState())

    def clock(self) -> float:
        """The time in this world."""
        return self.now

    def log(self, store: ObjectStore | None = None) -> ChannelLog:
        """The channel over a line of its own."""
        return ChannelLog(store or self.store, CHANNEL, self.trust)

    def publisher(self, who: str, *, store: ObjectStore | None = None, key: int = 0) -> Publisher:
        """A publisher of a machine, which keeps its journal."""
        signer = self.signers[key]
        return Publisher(log=self.log(store), signer=signer, state_dir=self.folder / who, clock=self.clock)

    def publish(
        self, who: str, name: str, file: PromptFile, *, store: ObjectStore | None = None, key: int = 0, git_commit: str = ""
    ) -> Published:
        """Let a name mean a prompt."""
        blobs = prompt_blobs(file) | {approval(file).digest: approval(file).to_bytes()}
        publisher = self.publisher(who, store=store, key=key)
        return publisher.publish(decision(name, file), blobs=blobs, git_commit=git_commit)

    def reader(self, node: str, *, store: ObjectStore | None = None, **changes: Any) -> Reader:
        """A node, which keeps what it served last."""
        given: dict[str, Any] = {
            "store": store or self.store,
            "channel": CHANNEL,
            "trust": self.trust,
            "state_dir": self.folder / node,
            "clock": self.clock,
        }
        return Reader(**(given | changes))

    def rotate(self, keep: int) -> None:
        """A new trust root in which one publishing key is gone and a new one has come."""
        self.signers = [self.signers[keep], CryptoSigner.generate_ed25519()]
        keys = {signer.public_key.keyid: _publishing_key(signer) for signer in self.signers}
        self.trust = self.trust.model_copy(update={"version": self.trust.version + 1, "publishing_keys": keys})

    def revoke(self, key: int) -> CryptoSigner:
        """A new trust root in which a key counts up to its newest good generation, and another one has come in its place."""
        stolen, envelopes = self.signers[key], self.envelopes()
        signed = [one["generation"] for one in chain(self) if _key_id(envelopes[one["generation"]]) == stolen.public_key.keyid]
        newest = max(signed, default=0)
        digest = hashlib.sha256(envelopes[newest]).hexdigest() if newest else ""
        last_good = {CHANNEL: LastGood(generation=newest, envelope=digest)}
        revoked = _publishing_key(stolen).model_copy(update={"last_good": last_good})
        self.signers[key] = CryptoSigner.generate_ed25519()
        keys = self.trust.publishing_keys | {
            stolen.public_key.keyid: revoked,
            self.signers[key].public_key.keyid: _publishing_key(self.signers[key]),
        }
        self.trust = self.trust.model_copy(update={"version": self.trust.version + 1, "publishing_keys": keys})
        return stolen

    def envelopes(self) -> dict[int, bytes]:
        """What lies under the numbers of the channel."""
        found = {}
        for key in self.store.list(PREFIX):
            number = key.removeprefix(PREFIX).removesuffix(".json")
            if len(number) == 12 and number.isdigit():
                found[int(number)] = self.store.get(key, max_bytes=10**8)
        return found


def _key_id(data: bytes) -> str:
    return str(json.loads(data)["signatures"][0]["keyid"])


def _publishing_key(signer: CryptoSigner) -> PublishingKey:
    return PublishingKey(**PublicKey.of(signer.public_key).model_dump(), channels=(CHANNEL,))


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """A folder in memory where there is one: what is tried is not the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def statement(data: bytes, trust: TrustRoot) -> dict[str, Any] | None:
    """The predicate of an envelope that a trusted key signed, by the letter of DSSE; None: of no such envelope."""
    try:
        envelope = json.loads(data)
        payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
        signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
        for signature in envelope["signatures"]:
            key = trust.publishing_keys[signature["keyid"]]
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.public)).verify(base64.b64decode(signature["sig"]), signed)
        return json.loads(payload)["predicate"]
    except (ValueError, KeyError, TypeError, InvalidSignature):
        return None


def chain(world: World) -> list[dict[str, Any]]:
    """The generations from the newest valid one down to the first, each followed by the one that it names."""
    envelopes = world.envelopes()
    for newest in sorted(envelopes, reverse=True):
        links = _links(newest, envelopes, world.trust)
        if links:
            return links
    return []


def _links(number: int, envelopes: dict[int, bytes], trust: TrustRoot) -> list[dict[str, Any]]:
    found, minimum = list[dict[str, Any]](), trust.channels[CHANNEL].minimum_generation
    while number >= minimum:
        predicate = statement(envelopes.get(number, b""), trust)
        if predicate is None or predicate["generation"] != number or predicate["channel_id"] != trust.channels[CHANNEL].id:
            return found
        last = trust.publishing_keys[_key_id(envelopes[number])].last_good.get(CHANNEL)
        if last and (number > last.generation or (number == last.generation and _sha256(envelopes[number]) != last.envelope)):
            return found
        before = number - 1 - len(predicate["skipped"])
        if before >= minimum and hashlib.sha256(envelopes.get(before, b"")).hexdigest() != predicate["previous"]:
            return found
        found.append(predicate)
        number = before
    return found


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def meaning(predicate: dict[str, Any], name: str) -> str:
    """The prompt that a name means, "" if none."""
    served = predicate["state"]["prompts"].get(name)
    return served["bases"][BASE][0]["prompt"] if served else ""


def changes(links: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What each generation changed: name and digest, oldest first."""
    found, before = list[tuple[str, str]](), dict[str, str]()
    for predicate in reversed(links):
        now = {name: meaning(predicate, name) for name in predicate["state"]["prompts"]}
        found += [(name, digest) for name, digest in now.items() if before.get(name) != digest]
        before = now
    return found


def check_store(world: World) -> list[dict[str, Any]]:
    """I1, I3, I5, I6 as far as the store shows them; the chain."""
    links = chain(world)
    assert links, "a channel that was begun has a valid generation"
    first = world.trust.channels[CHANNEL].minimum_generation
    assert links[-1]["generation"] - len(links[-1]["skipped"]) <= first, "the chain reaches the first generation that counts"
    ids = [predicate["publish_id"] for predicate in links]
    assert len(set(ids)) == len(ids), "every record has a publish_id of its own"
    created = [key for key, _ in getattr(world.store, "created", ())]
    assert len(set(created)) == len(created), "at most one commit for each number"
    for key in world.store.list("blobs/"):
        data = world.store.get(key, max_bytes=10**8)
        assert key == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}", "a blob is what its name says"
    for predicate in links:
        for digest in predicate["state"]["approvals"]:
            check_prompt(world.store, digest)
    return links


def check_prompt(store: ObjectStore, digest: str) -> None:
    """I1: the manifest has the digest, and each part the length and sha256 that it states."""
    manifest = store.get(f"blobs/sha256/{digest}", max_bytes=10**8)
    assert manifest is not None, f"manifest {digest} is in the store"
    for part in json.loads(manifest)["parts"]:
        data = store.get(f"blobs/sha256/{part['sha256']}", max_bytes=10**8)
        assert data is not None, f"part {part['sha256']} is in the store"
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part["length_bytes"], part["sha256"])


def check_served(world: World, snapshot: Any) -> None:
    """I1 and I2 of what a node serves: it is in the chain, byte for byte, and every prompt of it is whole."""
    mine = json.loads(snapshot.statement.to_bytes())
    assert any(mine == predicate for predicate in chain(world)), "what is served was signed for this channel"
    revoked = set(mine["state"]["revoked"])
    for digest in snapshot.statement.state.digests:
        assert digest not in revoked
        file = snapshot.load(digest)
        part = json.loads(file.manifest.to_bytes())["parts"][0]
        assert hashlib.sha256(file.manifest.to_bytes()).hexdigest() == digest
        assert (len(file.tensor), hashlib.sha256(file.tensor).hexdigest()) == (part["length_bytes"], part["sha256"])
