"""The trust root and the keys it names."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from securesystemslib.signer import CryptoSigner

from softprompt.documents import canonical_json
from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.release.trust import (
    AuditKey,
    ChannelTrust,
    PublicKey,
    PublishingKey,
    TrustRoot,
    load_signer,
    load_trust_root,
    sign_trust_root,
    verify_trust_root,
)

ROOT = CryptoSigner.generate_ed25519()
ED25519 = CryptoSigner.generate_ed25519()
AUDITOR = CryptoSigner.generate_ed25519()
ECDSA = CryptoSigner(ec.generate_private_key(ec.SECP256R1()))


def root(**changes):
    given = {
        "version": 1,
        "root_key_id": ROOT.public_key.keyid,
        "root_key": PublicKey.of(ROOT.public_key),
        "channels": {
            "staging": ChannelTrust(id="a" * 32),
            "production": ChannelTrust(id="b" * 32, minimum_generation=9),
        },
        "publishing_keys": {
            ED25519.public_key.keyid: PublishingKey(**PublicKey.of(ED25519.public_key).model_dump(), channels=("staging",)),
            ECDSA.public_key.keyid: PublishingKey(**PublicKey.of(ECDSA.public_key).model_dump(), channels=("production",)),
        },
    }
    return TrustRoot(**(given | changes))


def test_a_signed_root_reads_back(tmp_path):
    path = tmp_path / "root.json"
    path.write_bytes(sign_trust_root(root(), ROOT))
    assert load_trust_root(path) == root()


def test_a_key_may_sign_its_own_channels_only():
    assert [key.keyid for key in root().keys_for("staging")] == [ED25519.public_key.keyid]
    assert [key.keyid for key in root().keys_for("production")] == [ECDSA.public_key.keyid]
    assert root().keys_for("elsewhere") == ()
    with pytest.raises(InvalidRequest, match=r"(?s)does not know this channel.*production, staging"):
        root().channel("elsewhere")


def audit_key(signer, **changes):
    given = PublicKey.of(signer.public_key).model_dump() | {"channels": ("staging",), "holder": "Ada"}
    return {signer.public_key.keyid: AuditKey(**(given | changes))}


def test_an_audit_key_signs_decisions_of_its_channels_and_no_generation():
    trusted = root(audit_keys=audit_key(AUDITOR))
    assert [key.keyid for key in trusted.audit_keys_for("staging", 1)] == [AUDITOR.public_key.keyid]
    assert trusted.audit_keys_for("production", 1) == ()
    assert [key.keyid for key in trusted.keys_for("staging")] == [ED25519.public_key.keyid]
    assert verify_trust_root(sign_trust_root(trusted, ROOT), source="here") == trusted


def test_an_audit_key_that_went_out_of_use_counts_on_what_it_signed_before():
    trusted = root(audit_keys=audit_key(AUDITOR, last_record={"staging": 41}))
    assert [len(trusted.audit_keys_for("staging", number)) for number in (1, 41, 42)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("keys", "message"),
    [(audit_key(ED25519), "also a publishing key"), (audit_key(AUDITOR, channels=("elsewhere",)), "unknown channels")],
)
def test_an_audit_key_that_publishes_or_is_for_no_channel_is_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        root(audit_keys=keys)


def test_a_publishing_key_is_no_audit_key_under_another_id_either():
    (key,) = audit_key(ED25519).values()
    with pytest.raises(ValueError, match="also a publishing key"):
        root(audit_keys={"0" * 64: key})


@pytest.mark.parametrize("signer", [ED25519, ECDSA], ids=["ed25519", "ecdsa"])
def test_a_key_survives_being_written_down(signer):
    key = PublicKey.of(signer.public_key).key(signer.public_key.keyid)
    key.verify_signature(signer.sign(b"x"), b"x")


def test_a_root_signed_by_somebody_else_is_refused():
    with pytest.raises(VerificationFailed, match="signature does not verify"):
        verify_trust_root(sign_trust_root(root(), ED25519), source="here")


def test_a_changed_root_is_refused():
    import base64

    envelope = json.loads(sign_trust_root(root(), ROOT))
    envelope["payload"] = base64.b64encode(root(version=2).to_bytes()).decode()
    with pytest.raises(VerificationFailed, match="signature does not verify"):
        verify_trust_root(canonical_json(envelope), source="here")


def test_a_key_for_a_channel_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="unknown channels"):
        root(channels={})


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(InvalidRequest, match=r"(?s)no trust root.*none.json.*release init"):
        load_trust_root(tmp_path / "none.json")


@pytest.mark.parametrize("signer", [ED25519, ECDSA], ids=["ed25519", "ecdsa"])
def test_a_private_key_reads_back(tmp_path, signer):
    (tmp_path / "key.pem").write_bytes(signer.private_bytes)
    assert load_signer(tmp_path / "key.pem").public_key.keyid == signer.public_key.keyid


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no key, but a secret: hush",
        ED25519.private_bytes[:60],
        CryptoSigner(ec.generate_private_key(ec.SECP384R1())).private_bytes,
        CryptoSigner(rsa.generate_private_key(65537, 2048)).private_bytes,
    ],
    ids=["empty", "text", "half", "P-384", "RSA"],
)
def test_what_is_no_usable_key_is_refused_without_showing_it(tmp_path, content):
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(InvalidRequest, match="not a usable signing key") as caught:
        load_signer(tmp_path / "key.pem")
    assert "hush" not in str(caught.value)
    assert not any(line in str(caught.value) for line in content.decode().splitlines() if len(line) > 20)


def test_a_missing_key_is_named(tmp_path):
    with pytest.raises(InvalidRequest, match=r"(?s)no signing key.*none.pem"):
        load_signer(tmp_path / "none.pem")
