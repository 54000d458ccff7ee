"""Everything that somebody can change who may write to the bucket, and what a careless or hostile key holder can sign.

In each case a node has the good generation 2, the bad one is generation 3, and the node refuses it for the reason given and
goes on serving generation 2, whole.
"""

import base64
import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import safetensors.numpy
from securesystemslib.signer import CryptoSigner

from softprompt.documents import canonical_json, sha256_hex
from softprompt.errors import SoftpromptError, VerificationFailed
from softprompt.release import envelope
from softprompt.release.layout import LIFE_SECONDS, MAX_ENVELOPE_BYTES, blob_key, generation_key
from softprompt.release.statement import ChannelState, Served, Share, format_time, to_statement
from tests.reliability.forgery import next_generation, put_next, signed, state_of
from tests.reliability.world import BASE, CHANNEL, World, _publishing_key, approval, check_served, prompt

DAY = 24 * 3600
NEW = 7  # the prompt of generation 3


class Case(NamedTuple):
    """One way to tamper."""

    what: str
    reason: str
    do: Callable[[World], None]


def honest(world):
    """Generation 3 as it should be, its blobs in the store."""
    for digest, data in _files(prompt(NEW)).items():
        world.store.put(blob_key(digest), data)
    return next_generation(world, state=state_of(NEW))


def _files(file):
    return {file.digest: file.manifest.to_bytes(), file.manifest.parts[0].sha256: file.tensor}


def changed_envelope(change):
    """Bytes of the honest envelope, changed."""
    return lambda world: put_next(world, change(signed(world, honest(world))))


def changed_form(**changes):
    return changed_envelope(lambda data: canonical_json(json.loads(data) | changes))


def changed_predicate(**changes):
    """A statement that no `Generation` can be, signed with the right key."""

    def do(world):
        statement = json.loads(to_statement(honest(world)))
        statement["predicate"] |= changes
        put_next(world, envelope.sign(canonical_json(statement), world.signers[0]))

    return do


def changed_statement(change):
    return lambda world: put_next(world, envelope.sign(change(to_statement(honest(world))), world.signers[0]))


def changed_generation(**changes):
    """Signed with the right key, of the right form, but not what belongs there."""
    return lambda world: put_next(world, signed(world, next_generation(world, **({"state": honest(world).state} | changes))))


def signed_by(signer):
    return lambda world: put_next(world, signed(world, honest(world), signer(world)))


def changed_blob(which, change):
    """A blob of generation 3, changed or (None) taken away, in a store that has the honest generation 3."""

    def do(world):
        put_next(world, signed(world, honest(world)))
        digest = list(_files(prompt(NEW)))[which]
        data = change(world.store.objects.pop(blob_key(digest)))
        if data is not None:
            world.store.put(blob_key(digest), data)

    return do


def bad_prompt(manifest=lambda content: content, tensor=lambda data: data, restate=True):
    """A prompt that never was one, with digests that fit, in a state that the right key signs."""

    def do(world):
        file = prompt(NEW)
        data = tensor(file.tensor)
        content = json.loads(file.manifest.to_bytes())
        if restate:
            content["parts"][0] |= {"sha256": sha256_hex(data), "length_bytes": len(data)}
        written = manifest(content)
        written = written if isinstance(written, bytes) else canonical_json(written)
        for blob in (written, data):
            world.store.put(blob_key(sha256_hex(blob)), blob)
        digest = sha256_hex(written)
        served = Served(bases={BASE: (Share(prompt=digest),)})
        approved = approval(file).model_copy(update={"prompt": digest})
        state = ChannelState(prompts={"greeting": served}, approvals={digest: approved})
        put_next(world, signed(world, next_generation(world, state=state)))

    return do


def _sign_without_its_type(world):
    """The signature is over the payload alone, as it would be without DSSE."""
    data = json.loads(signed(world, honest(world)))
    key = world.signers[0].sign(base64.b64decode(data["payload"]))
    data["signatures"] = [{"keyid": key.keyid, "sig": base64.b64encode(bytes.fromhex(key.signature)).decode()}]
    put_next(world, canonical_json(data))


def _with_a_second_signature(world):
    data = json.loads(signed(world, honest(world)))
    data["signatures"] += [{"keyid": "f" * 64, "sig": base64.b64encode(b"smuggled").decode()}]
    put_next(world, canonical_json(data))


def _by_a_key_of_the_same_id(world):
    return CryptoSigner.generate_ed25519(keyid=world.signers[0].public_key.keyid)


def _by_another_channels_key(world):
    signer = CryptoSigner.generate_ed25519()
    key = _publishing_key(signer).model_copy(update={"channels": ("production",)})
    keys = world.trust.publishing_keys | {signer.public_key.keyid: key}
    world.trust = world.trust.model_copy(update={"publishing_keys": keys})
    return signer


def _by_a_key_that_was_taken_out(world):
    expelled = world.signers[1]
    world.rotate(keep=0)
    return expelled


def _flip(data):
    return data[:-9] + bytes([data[-9] ^ 4]) + data[-8:]


def _tensor(**arrays):
    return lambda _: safetensors.numpy.save(arrays)


ONE = np.array([[1.0, 2.0]], dtype=np.float32)
SIGNATURE, PLACE, BLOB = (
    "A signature does not verify",
    "lies in another's place",
    "A blob is missing or is not what its name says",
)
FORM, ONE_FORM = "is not a valid", "not in the one form that its content has"
CASES = [
    # The envelope
    Case("one bit of the payload is another", SIGNATURE, changed_envelope(lambda data: data.replace(b"eyJf", b"eyJe", 1))),
    Case("the envelope is cut in the middle", "not strict JSON", changed_envelope(lambda data: data[: len(data) // 2])),
    Case("the envelope is empty", "not strict JSON", changed_envelope(lambda _: b"")),
    Case("the envelope is not UTF-8", "not strict JSON", changed_envelope(lambda data: data + b"\xff")),
    Case("the envelope is a list", FORM, changed_envelope(lambda data: b"[" + data + b"]")),
    Case("the envelope is nested without end", "not strict JSON", changed_envelope(lambda _: b"[" * 100_000)),
    Case(
        "the envelope is larger than it may be",
        "larger than it may be",
        changed_envelope(lambda _: b"x" * (MAX_ENVELOPE_BYTES + 1)),
    ),
    Case("something unsigned travels in the envelope", FORM, changed_form(note="hello")),
    Case("the envelope has spaces", "not in canonical form", changed_envelope(lambda data: data + b"\n")),
    Case("a key is there twice", "duplicate key", changed_envelope(lambda data: data[:-1] + b',"payload":""}')),
    Case("the payload is of another type", "of another type", changed_form(payloadType="application/json")),
    Case("the payload is not base64", "not a DSSE envelope", changed_form(payload="*")),
    Case("the payload is empty", SIGNATURE, changed_form(payload="")),
    # The key
    Case("nobody signed", SIGNATURE, changed_form(signatures=[])),
    Case("a stranger signed", SIGNATURE, signed_by(lambda _: CryptoSigner.generate_ed25519())),
    Case("a stranger signed under the id of the right key", SIGNATURE, signed_by(_by_a_key_of_the_same_id)),
    Case("the key of another channel signed", SIGNATURE, signed_by(_by_another_channels_key)),
    Case("a key signed that was taken out of the trust root", SIGNATURE, signed_by(_by_a_key_that_was_taken_out)),
    Case("the offline root key signed", SIGNATURE, signed_by(lambda world: world.root_signer)),
    Case("the payload was signed without its type", SIGNATURE, _sign_without_its_type),
    Case("a second signature travels with the right one", "signed more than once", _with_a_second_signature),
    # The statement
    Case(
        "the statement is about something else",
        "not about a generation",
        changed_statement(lambda data: data.replace(b"generation:v1", b"generation:v2")),
    ),
    Case("the statement is not canonical", ONE_FORM, changed_statement(lambda data: data.replace(b'{"_type"', b'{ "_type"'))),
    Case(
        "the statement does not name its prompt",
        ONE_FORM,
        changed_statement(lambda data: canonical_json(json.loads(data) | {"subject": []})),
    ),
    Case("the statement says more than is known", FORM, changed_predicate(note="hello")),
    Case("the statement is of a later schema", FORM, changed_predicate(schema_version=2)),
    Case("the statement has no publish_id", FORM, changed_predicate(publish_id="")),
    Case(
        "a prompt is in use and revoked",
        "a revoked prompt is in use",
        changed_predicate(state=json.loads(state_of(NEW).to_bytes()) | {"revoked": [prompt(NEW).digest]}),
    ),
    Case(
        "a prompt is in use without an approval",
        "must cover the prompts in use",
        changed_predicate(state=json.loads(state_of(NEW).to_bytes()) | {"approvals": {}}),
    ),
    Case(
        "an approval is about another prompt",
        "one is about another prompt",
        changed_predicate(
            state=json.loads(state_of(NEW).to_bytes())
            | {"approvals": {prompt(NEW).digest: json.loads(approval(prompt(3)).to_bytes())}}
        ),
    ),
    # The generation and its place
    Case("it follows another generation", "follows another one", changed_generation(previous="0" * 64)),
    Case("it says that it is a later one", PLACE, changed_generation(generation=4, skipped=(3,))),
    Case("it says that it is an earlier one", PLACE, changed_generation(generation=2)),
    Case("it says that it is the first", FORM, changed_predicate(previous="")),
    Case("it skips what it may not skip", FORM, changed_predicate(skipped=[1])),
    Case("an older generation lies in its place", PLACE, lambda world: put_next(world, world.envelopes()[1])),
    Case("the one before lies in its place", PLACE, lambda world: put_next(world, world.envelopes()[2])),
    # Expiry
    Case(
        "it has expired",
        "It has expired",
        lambda world: changed_generation(created=format_time(world.now - DAY), expires=format_time(world.now - 301))(world),
    ),
    Case(
        "it is from the future",
        "from the future",
        lambda world: changed_generation(created=format_time(world.now + 302), expires=format_time(world.now + DAY))(world),
    ),
    Case(
        "it expires before it was made",
        "must be after created",
        changed_predicate(created="2027-01-15T08:00:01Z", expires="2027-01-15T08:00:00Z"),
    ),
    Case("its time has another form", FORM, changed_predicate(expires="2027-01-16 08:00:00")),
    # The channel
    Case("it is for another channel", PLACE, changed_generation(channel="production", channel_id="d0" * 16)),
    Case("it is for a channel of the same name elsewhere", PLACE, changed_generation(channel_id="0" * 32)),
    # The base
    Case(
        "a prompt is listed under another base",
        "under another base model",
        changed_generation(state=state_of(2, listed_base="f" * 64)),
    ),
    # Manifest and tensor
    *(
        Case(f"the {what} {how}", BLOB, changed_blob(which, change))
        for which, what in enumerate(("manifest", "tensor"))
        for how, change in (
            ("has another bit", _flip),
            ("is cut", lambda data: data[:-1]),
            ("is missing", lambda _: None),
            ("is empty", lambda _: b""),
            ("is another prompt's", lambda _, which=which: list(_files(prompt(2)).values())[which]),
        )
    ),
    Case("the tensor is longer", "larger than it may be", changed_blob(1, lambda data: data + b"x")),
    # What a careless publisher signs
    Case(
        "a manifest is of a later schema",
        "schema version that this softprompt does not know",
        bad_prompt(lambda content: content | {"schema_version": 2}),
    ),
    Case("a manifest is of an unknown kind", "of an unknown kind", bad_prompt(lambda content: content | {"kind": "lora"})),
    Case("a manifest is not canonical", "manifest bytes", bad_prompt(lambda content: canonical_json(content) + b"\n")),
    Case("a manifest says more than is known", FORM, bad_prompt(lambda content: content | {"note": "hello"})),
    Case(
        "a manifest states another shape",
        "the tensor has 2 rows",
        bad_prompt(lambda content: content | {"parts": [content["parts"][0] | {"shape": [2, 1]}]}),
    ),
    Case(
        "a tensor has another shape than stated", "does not verify: tensor", bad_prompt(tensor=_tensor(prompt_embeddings=ONE.T))
    ),
    Case(
        "a tensor has another length than stated",
        "larger than it may be",
        bad_prompt(lambda content: content | {"parts": [content["parts"][0] | {"length_bytes": 8}]}),
    ),
    Case("a tensor has another name", "does not verify: tensor", bad_prompt(tensor=_tensor(weights=ONE))),
    Case(
        "a second tensor travels with it", "does not verify: tensor", bad_prompt(tensor=_tensor(prompt_embeddings=ONE, more=ONE))
    ),
    Case(
        "a tensor has numbers of another type",
        "does not verify: tensor",
        bad_prompt(tensor=_tensor(prompt_embeddings=ONE.astype(np.float16))),
    ),
    Case("a tensor has NaN", "NaN or infinity", bad_prompt(tensor=_tensor(prompt_embeddings=ONE * np.nan))),
    Case("a tensor has infinity", "NaN or infinity", bad_prompt(tensor=_tensor(prompt_embeddings=ONE * np.inf))),
    Case(
        "a tensor file is a pickle",
        "does not verify: tensor",
        bad_prompt(tensor=lambda data: b"\x80\x04K\x01.".ljust(len(data), b".")),
    ),
    Case(
        "a tensor file holds something beside the tensor",
        "does not verify: tensor length",
        bad_prompt(tensor=lambda _: safetensors.numpy.save({"prompt_embeddings": ONE}, {"note": "hello"})),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_it_is_refused_for_its_reason_and_the_good_one_is_served(case, world):
    world.publish("machine", "greeting", prompt(2))
    assert world.reader("node").refresh().generation == 2
    case.do(world)
    for reader in (world.reader("node"), world.reader("new node")):
        try:
            snapshot = reader.refresh()
        except SoftpromptError as error:  # a node without state has nothing to keep
            snapshot, alarms = None, (str(error),)
        else:
            alarms = snapshot.alarms
            assert snapshot.generation == 2
            assert snapshot.load(prompt(2).digest) == prompt(2)
        assert any(case.reason in alarm for alarm in alarms), alarms
        assert snapshot or reader._file.parent.name == "new node"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_the_next_publish_gets_past_it(case, world):
    """One bad object never wedges a channel."""
    world.publish("machine", "greeting", prompt(2))
    reader = world.reader("node")
    reader.refresh()
    case.do(world)
    world.now += 400  # past the clock skew that one of the cases uses
    assert world.publish("machine", "greeting", prompt(1)).generation == 4
    snapshot = world.reader("another").refresh()
    assert (snapshot.generation, snapshot.stale) == (4, False)
    check_served(world, snapshot)


def test_there_are_enough_of_them():
    assert len(CASES) >= 60
    assert len({case.what for case in CASES}) == len(CASES)


def test_the_honest_generation_is_taken(world):
    """So the cases above are refused for what was changed."""
    world.publish("machine", "greeting", prompt(2))
    put_next(world, signed(world, honest(world)))
    assert world.reader("node").refresh().generation == 3


def test_a_tampered_evidence_file_is_refused(world):
    world.publish("machine", "greeting", prompt(2))
    snapshot = world.reader("node").refresh()
    file = prompt(NEW)
    report = b"{}"
    approved = approval(file).model_copy(update={"evidence": {"report.json": sha256_hex(report)}})
    state = state_of(NEW).model_copy(update={"approvals": {file.digest: approved}})
    put_next(world, signed(world, next_generation(world, state=honest(world).state and state)))
    world.store.put(blob_key(sha256_hex(report)), b"{ }")
    snapshot = world.reader("node").refresh()
    assert snapshot.generation == 3
    with pytest.raises(VerificationFailed, match=BLOB):
        snapshot.evidence(file.digest, "report.json")


def test_a_generation_below_the_roots_minimum_is_refused(world):
    world.publish("machine", "greeting", prompt(2))
    trusted = world.trust.channels[CHANNEL].model_copy(update={"minimum_generation": 3})
    world.trust = world.trust.model_copy(update={"channels": {CHANNEL: trusted}, "publishing_keys": world.trust.publishing_keys})
    with pytest.raises(VerificationFailed, match="no generation that this node may serve"):
        world.reader("node").refresh()


def test_what_a_node_keeps_is_believed_no_more_than_the_store(world):
    """A blob on its disk is fetched again; an envelope on its disk is not served."""
    world.publish("machine", "greeting", prompt(2))
    world.reader("node").refresh()
    folder = world.folder / "node"
    for blob in (folder / "blobs").iterdir():
        blob.write_bytes(b"tampered")
    state = folder / f"{CHANNEL}.active.json"
    state.write_bytes(state.read_bytes().replace(b"eyJf", b"eyJe"))
    snapshot = world.reader("node").refresh()
    assert snapshot.load(prompt(2).digest) == prompt(2)
    assert "What this node served last cannot be used" in world_alarm(world, state)


def world_alarm(world, state):
    """What a node says whose state was changed and whose store is gone."""
    state.write_bytes(state.read_bytes().replace(b"eyJf", b"eyJe"))
    world.store.objects.pop(generation_key(CHANNEL, 2))
    with pytest.raises(VerificationFailed) as refused:
        world.reader("node").refresh()
    return str(refused.value)


def test_expiry_is_tried_at_its_edge(world):
    """Five minutes of clock skew are forgiven, a second more is not."""
    world.publish("machine", "greeting", prompt(2))
    world.now += LIFE_SECONDS + 300
    assert not world.reader("node").refresh().stale
    world.now += 1
    with pytest.raises(VerificationFailed, match="It has expired"):
        world.reader("new node").refresh()
