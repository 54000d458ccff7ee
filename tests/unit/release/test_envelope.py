"""Envelopes: both signature schemes, and everything that is not signed by the right hand."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import CryptoSigner

from softprompt.documents import canonical_json
from softprompt.errors import VerificationFailed
from softprompt.release import envelope

ED25519 = CryptoSigner.generate_ed25519()
ECDSA = CryptoSigner(ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize("signer", [ED25519, ECDSA], ids=["ed25519", "ecdsa"])
def test_what_was_signed_verifies(signer):
    data = envelope.sign(b'{"a":1}', signer)
    assert envelope.verify(data, [ED25519.public_key, ECDSA.public_key], source="here") == b'{"a":1}'
    assert json.loads(data)["payloadType"] == "application/vnd.in-toto+json"


def test_the_signature_is_over_dsses_encoding():
    """Checked against the specification's PAE, by hand."""
    parsed = json.loads(envelope.sign(b"hello", ED25519))
    signature = base64.b64decode(parsed["signatures"][0]["sig"])
    encoded = b"DSSEv1 28 application/vnd.in-toto+json 5 hello"
    ED25519._private_key.public_key().verify(signature, encoded)


def test_ecdsa_signs_the_same_bytes_differently_each_time():
    assert envelope.sign(b"x", ECDSA) != envelope.sign(b"x", ECDSA)
    assert envelope.sign(b"x", ED25519) == envelope.sign(b"x", ED25519)


@pytest.mark.parametrize("keys", [[], [ECDSA.public_key]], ids=["no key", "another key"])
def test_a_key_that_is_not_allowed_does_not_count(keys):
    with pytest.raises(VerificationFailed, match="signature does not verify"):
        envelope.verify(envelope.sign(b"x", ED25519), keys, source="here")


def test_another_key_under_an_allowed_keys_id_does_not_count():
    forger = CryptoSigner.generate_ed25519(keyid=ED25519.public_key.keyid)
    with pytest.raises(VerificationFailed, match="signature does not verify"):
        envelope.verify(envelope.sign(b"x", forger), [ED25519.public_key], source="here")


def test_another_payload_type_does_not_count():
    data = envelope.sign(b"x", ED25519, payload_type="application/json")
    with pytest.raises(VerificationFailed, match="another type"):
        envelope.verify(data, [ED25519.public_key], source="here")
    renamed = canonical_json(json.loads(data) | {"payloadType": envelope.STATEMENT_PAYLOAD})
    with pytest.raises(VerificationFailed, match="signature does not verify"):
        envelope.verify(renamed, [ED25519.public_key], source="here")


def _changed(**changes):
    return canonical_json(json.loads(envelope.sign(b"x", ED25519)) | changes)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'"text"',
        b"not json",
        _changed(payload="%%%"),
        _changed(payload=3),
        _changed(signatures=[]),
        _changed(signatures=[{}]),
        _changed(signatures="none"),
        _changed(signatures=[{"keyid": 1, "sig": "AA=="}]),
        _changed(signatures=json.loads(envelope.sign(b"x", ED25519))["signatures"] * 2),
        _changed(more="nobody signed this"),
        _changed(signatures=[json.loads(envelope.sign(b"x", ED25519))["signatures"][0] | {"more": 1}]),
        json.dumps(json.loads(envelope.sign(b"x", ED25519))).encode(),
        _changed(payload=base64.b64encode(b"y").decode()),
    ],
)
def test_everything_else_is_refused(data):
    with pytest.raises(VerificationFailed):
        envelope.verify(data, [ED25519.public_key], source="here")
