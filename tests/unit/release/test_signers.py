"""Who signs: files, and a key service over HTTP. The service here is ministack's, an emulator; AWS itself was not tried."""

import json
import os
import socket
import stat
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import CryptoSigner

from softprompt.errors import InvalidRequest, ServiceUnavailable, VerificationFailed
from softprompt.release.care.init_channel import init_channel
from softprompt.release.signers import generate_key, open_signer, public_half, read_public_half


@pytest.fixture(scope="module")
def kms_server(tmp_path_factory):
    """An emulator of AWS KMS on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("kms")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ}
    environment = kept | {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "kms",
        "TMPDIR": str(folder),
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{folder}/no-docker",
        "LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-c", "import ministack.app; ministack.app.main()"]
    process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "the key service ended"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
def kms(kms_server, monkeypatch):
    """A client of the service, which the environment names."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", kms_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return boto3.client("kms")


def made(kms, spec="ECC_NIST_P256"):
    return f"awskms:{kms.create_key(KeySpec=spec, KeyUsage='SIGN_VERIFY')['KeyMetadata']['KeyId']}"


def test_a_key_service_signs_what_its_public_key_verifies(kms):
    signer = open_signer(made(kms))
    signature = signer.sign(b"payload")
    key = load_pem_public_key(signer.public_key.keyval["public"].encode())
    from cryptography.hazmat.primitives import hashes

    key.verify(bytes.fromhex(signature.signature), b"payload", ec.ECDSA(hashes.SHA256()))  # not our library again
    assert signature.keyid == signer.public_key.keyid


def test_a_channel_is_begun_and_published_to_with_a_key_that_never_leaves_the_service(kms, channel, make_prompt, tmp_path):
    uri = made(kms)
    other = type(channel)(
        type(channel.store)("softprompt", f"{channel.store._prefix}kms", channel.store._client), tmp_path / "kms"
    )
    other.write_policy()
    keys, root = other.folder / "keys", other.trust_root
    init_channel("staging", store=other.store, keys_dir=keys, trust_root=root, signing_key=uri, clock=other.clock)
    assert [path.name for path in keys.glob("*.pem")] == ["root.pem"]
    assert other.publish(make_prompt(), signing_key=uri).outcome == "published"
    assert other.reader().refresh().load(make_prompt().digest) == make_prompt()
    with pytest.raises(InvalidRequest, match="does not allow this key"):
        other.publish(make_prompt(1), signing_key=made(kms))


@pytest.mark.parametrize("spec", ["RSA_2048", "ECC_NIST_P384"])
def test_a_key_of_another_kind_is_refused(kms, spec):
    with pytest.raises(InvalidRequest, match="scheme that is not accepted"):
        open_signer(made(kms, spec))


def test_a_service_that_does_not_answer_or_refuses_is_an_error_of_ours(kms, monkeypatch):
    with pytest.raises(ServiceUnavailable, match=r"(?s)key service does not answer.*awskms:nobody"):
        open_signer("awskms:nobody")
    signer = open_signer(made(kms))
    kms.disable_key(KeyId=signer._uri.removeprefix("awskms:"))
    with pytest.raises(ServiceUnavailable, match="DisabledException"):
        signer.sign(b"x")


def test_a_signature_by_another_key_is_noticed_before_it_is_published(kms):
    signer, other = open_signer(made(kms)), open_signer(made(kms))
    signer._signer._public_key = other.public_key
    with pytest.raises(ServiceUnavailable, match="verif"):
        signer.sign(b"x")


@pytest.mark.parametrize(
    "uri", ["gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", "azurekms://v/keys/k"]
)
def test_a_service_whose_library_is_missing_says_what_to_install(uri):
    """The services themselves were not tried."""
    with pytest.raises(InvalidRequest, match=r"pip install 'securesystemslib\[(gcp|azure)kms\]'"):
        open_signer(uri)


def test_an_unknown_service_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match=r"(?s)not a key.*awskms, gcpkms, azurekms"):
        open_signer("carrier-pigeon:somewhere")


@pytest.mark.parametrize("scheme", ["ed25519", "ecdsa-p256"])
def test_a_made_key_signs_and_its_public_half_travels(tmp_path, scheme):
    path = tmp_path / "key.pem"
    public = generate_key(scheme, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    signer = open_signer(str(path))
    public.key.key(public.key_id).verify_signature(signer.sign(b"x"), b"x")
    (tmp_path / "key.pub").write_bytes(public.to_bytes() + b"\n")
    assert read_public_half(str(tmp_path / "key.pub")) == read_public_half(path) == public == public_half(signer)
    assert b"PRIVATE" not in public.to_bytes()


def test_a_key_is_never_replaced(tmp_path):
    generate_key("ed25519", tmp_path / "key.pem")
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(InvalidRequest, match="such a file already"):
        generate_key("ed25519", tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_bytes() == before
    with pytest.raises(InvalidRequest, match="no such scheme"):
        generate_key("rsa", tmp_path / "other.pem")


def test_a_public_half_under_another_keys_id_gets_its_own(tmp_path):
    mine, other = (public_half(CryptoSigner.generate_ed25519()) for _ in range(2))
    (tmp_path / "key.pub").write_text(json.dumps({"key_id": other.key_id, "key": mine.key.model_dump()}))
    assert read_public_half(tmp_path / "key.pub") == mine


def test_what_is_no_public_half_is_refused(tmp_path):
    (tmp_path / "key.pub").write_text('{"key_id": "x", "key": {"scheme": "ed25519", "public": "zz"}}')
    with pytest.raises(InvalidRequest, match="not a public key"):
        read_public_half(tmp_path / "key.pub")
    (tmp_path / "key.pub").write_text('{"key": 1}')
    with pytest.raises(VerificationFailed, match="not a valid KeyFile"):
        read_public_half(tmp_path / "key.pub")
