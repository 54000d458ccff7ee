"""Verifying a store finds whatever does not hold, and nothing in a store that is whole."""

import pytest
from securesystemslib.signer import CryptoSigner

from softprompt.documents import sha256_hex
from softprompt.release import envelope
from softprompt.release.care.root_changes import change_trust_root, publish_trust_root
from softprompt.release.care.verify_store import verify_store
from softprompt.release.layout import blob_key, generation_key, root_key
from softprompt.release.statement import to_statement
from softprompt.release.trust import load_signer, load_trust_root

DAY = 24 * 3600


@pytest.fixture
def served(channel, make_prompt):
    """A channel at generation 3."""
    channel.publish(make_prompt(1))
    channel.publish(make_prompt(2))
    return channel


def verified(channel):
    return verify_store(channel.store, load_trust_root(channel.trust_root), ["staging"], now=channel.clock())


def get(channel, key):
    return channel.store.get(key, max_bytes=10**7)


def test_a_store_that_is_whole_has_nothing_to_report(served):
    found = verified(served)
    assert (found.problems, found.notes, found.whole) == ((), (), True)
    assert (found.num_roots, found.num_generations, found.num_collected) == (1, 3, 0)
    assert found.num_blobs == len(list(served.store.list("blobs/"))) > 0


def cut_generation(channel, make_prompt):
    channel.store.put(generation_key("staging", 2), get(channel, generation_key("staging", 2))[:-1])
    return generation_key("staging", 2)


def other_generation(channel, make_prompt):
    """Signed by the right key, but another one than the next one names."""
    key = generation_key("staging", 2)
    changed = channel.log.read(2).generation.model_copy(update={"publish_id": "0" * 32})
    channel.store.put(key, envelope.sign(to_statement(changed), load_signer(channel.signing_key)))
    return generation_key("staging", 3)  # which names another one than there is


def generation_by_a_stranger(channel, make_prompt):
    key = generation_key("staging", 4)
    made = channel.log.head().signed.generation.model_copy(update={"generation": 4})
    channel.store.put(key, envelope.sign(to_statement(made), CryptoSigner.generate_ed25519()))
    return key


def lost_generation(channel, make_prompt):
    channel.store.delete(generation_key("staging", 2), version="")
    return generation_key("staging", 2)


def changed_blob(channel, make_prompt):
    key = blob_key(make_prompt(2).manifest.parts[0].sha256)
    data = bytearray(get(channel, key))
    data[-1] ^= 1
    channel.store.put(key, bytes(data))
    return key


def lost_blob(channel, make_prompt):
    channel.store.delete(blob_key(make_prompt(2).digest), version="")
    return blob_key(make_prompt(2).digest)


def unreferenced_blob_that_lies(channel, make_prompt):
    channel.store.put(blob_key("1" * 64), b"x")
    return blob_key("1" * 64)


def changed_root(channel, make_prompt):
    channel.store.put(root_key(1), get(channel, root_key(1))[:-1])
    return root_key(1)


def root_by_a_stranger(channel, make_prompt):
    thief = channel.folder / "thief.json"
    change_trust_root(thief, CryptoSigner.generate_ed25519(), {"version": 2})
    channel.store.put(root_key(2), thief.read_bytes())
    return root_key(2)


def decision_by_a_stranger(channel, make_prompt):
    channel.store.put("audit/staging/000000000001.json", b"{}")
    return "audit/staging/000000000001.json"


DAMAGES = (
    cut_generation,
    other_generation,
    generation_by_a_stranger,
    lost_generation,
    changed_blob,
    lost_blob,
    unreferenced_blob_that_lies,
    changed_root,
    root_by_a_stranger,
    decision_by_a_stranger,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_whatever_does_not_hold_is_named_by_its_key(served, make_prompt, damage):
    key = damage(served, make_prompt)
    found = verified(served)
    assert not found.whole
    assert key in [problem.key for problem in found.problems], found.problems


def test_what_a_later_generation_passes_over_is_a_note(served, make_prompt):
    generation_by_a_stranger(served, make_prompt)
    assert not verified(served).whole
    assert served.publish(make_prompt(3)).generation == 5
    found = verified(served)
    assert (found.whole, [note.key for note in found.notes]) == (True, [generation_key("staging", 4)])


def test_blobs_that_only_old_generations_name_may_be_gone(served, make_prompt, monkeypatch):
    monkeypatch.setattr("softprompt.release.care.verify_store.KEPT_GENERATIONS", 1)
    for digest in (make_prompt(1).digest, make_prompt(1).manifest.parts[0].sha256):
        served.store.delete(blob_key(digest), version="")
    assert not verified(served).whole, "still within the window for rolling back"
    served.clock.now += 91 * DAY
    found = verified(served)
    assert (found.whole, found.num_collected) == (True, 1)


def test_a_root_in_the_store_that_is_not_the_mounted_one_is_named(served, tmp_path):
    key = load_signer(served.folder / "keys" / "root.pem")
    change_trust_root(served.trust_root, key, {})
    publish_trust_root(served.store, served.trust_root)
    assert verified(served).num_roots == 2
    (served.trust_root.parent / "roots").rename(tmp_path / "roots")
    served.trust_root.write_bytes((tmp_path / "roots" / "000000000001.json").read_bytes())
    change_trust_root(served.trust_root, key, {"channels": dict(load_trust_root(served.trust_root).channels), "expires": ""})
    assert verified(served).whole, "the same content"
    served.trust_root.write_bytes((tmp_path / "roots" / "000000000001.json").read_bytes())
    change_trust_root(served.trust_root, key, {"expires": "2100-01-01T00:00:00Z"})
    assert [problem.key for problem in verified(served).problems] == [root_key(2)]


def test_bytes_are_those_of_the_blobs(served):
    keys = list(served.store.list("blobs/"))
    assert verified(served).num_bytes == sum(len(get(served, key)) for key in keys)
    assert all(key == blob_key(sha256_hex(get(served, key))) for key in keys)
