"""Who signs: a private key in a file, or one that never leaves a key service.

A key service (KMS) is named by securesystemslib's URIs: `awskms:alias/NAME`, `gcpkms:projects/...`, `azurekms://VAULT/keys/NAME`.
It signs ECDSA P-256; none of them has Ed25519. Its public half is asked of the service, and whether that key may sign a channel
is the trust root's word. Rights needed on AWS: `kms:GetPublicKey` and `kms:Sign` on the one key.
"""

import importlib
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import CryptoSigner, Key, Signature, Signer, SSlibKey

from softprompt.documents import Document
from softprompt.errors import InvalidRequest, ServiceUnavailable
from softprompt.release.durable import read_if_there, write_durably
from softprompt.release.trust import PublicKey, load_signer

KeySource = Path | str
"""A private key's PEM file, or the URI of a key in a key service."""

_SERVICES = {"awskms": "AWSSigner", "gcpkms": "GCPSigner", "azurekms": "AzureSigner"}


class KeyFile(Document):
    """The public half of a key, as a file that travels to whoever holds the root key."""

    max_bytes = 4096

    key_id: str
    key: PublicKey


class ServiceSigner(Signer):
    """A key in a key service; what it signs is checked before it is believed, and its failures are errors of ours."""

    def __init__(self, uri: str, signer: Signer) -> None:
        self._uri, self._signer = uri, signer

    @property
    def public_key(self) -> Key:
        """The public half."""
        return self._signer.public_key

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> "ServiceSigner":
        """The signer of a key whose public half is known already."""
        return cls(priv_key_uri, Signer.from_priv_key_uri(priv_key_uri, public_key, secrets_handler))

    def sign(self, payload: bytes) -> Signature:
        """A signature that verifies. ServiceUnavailable: the service does not answer, refuses, or signs with another key."""
        try:
            signature = self._signer.sign(payload)
            self.public_key.verify_signature(signature, payload)
        except Exception as error:  # noqa: BLE001  (each service's library has errors of its own)
            raise _unavailable(self._uri, error) from None
        return signature


def open_signer(source: KeySource) -> Signer:
    """The signer of a key.

    Args:
        source: A PEM file, or a key service's URI.

    Raises:
        InvalidRequest: No such file, not such a key, an unknown service, or its library is not installed.
        ServiceUnavailable: The key service does not answer or refuses.
    """
    if isinstance(source, Path) or ":" not in source:
        return load_signer(Path(source))
    scheme, _, name = source.partition(":")
    if scheme not in _SERVICES:
        raise InvalidRequest(
            "This is not a key.", where=source, expected=f"a PEM file, or a URI that begins with {', '.join(_SERVICES)}"
        )
    try:
        service = getattr(importlib.import_module("securesystemslib.signer"), _SERVICES[scheme])
        uri, public = service.import_(*_arguments(scheme, name))
        PublicKey.of(public)
        return ServiceSigner(source, Signer.from_priv_key_uri(uri, public))
    except InvalidRequest:
        raise
    except (UnsupportedLibraryError, ImportError) as error:
        extra = f"pip install 'securesystemslib[{scheme}]'"
        raise InvalidRequest("The key service needs a library.", where=source, actual=str(error), hint=extra) from None
    except Exception as error:  # noqa: BLE001
        raise _unavailable(source, error) from None


def generate_key(scheme: str, path: Path) -> KeyFile:
    """Make a private key, for its owner's eyes only; one that is there is never replaced.

    Args:
        scheme: `ed25519` or `ecdsa-p256`.
        path: File to write.

    Raises:
        InvalidRequest: There is such a file already, or no such scheme.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    if path.exists():
        raise InvalidRequest("There is such a file already.", where=str(path), hint="Name another file; a key is never replaced.")
    if scheme == "ed25519":
        signer = CryptoSigner.generate_ed25519()
    elif scheme == "ecdsa-p256":
        signer = CryptoSigner(ec.generate_private_key(ec.SECP256R1()))
    else:
        raise InvalidRequest("There is no such scheme.", expected="ed25519 or ecdsa-p256", actual=scheme)
    write_durably(path, signer.private_bytes, mode=0o600)
    return public_half(signer)


def public_half(signer: Signer) -> KeyFile:
    """The public half of a signer's key."""
    return KeyFile(key_id=signer.public_key.keyid, key=PublicKey.of(signer.public_key))


def read_public_half(source: KeySource) -> KeyFile:
    """The public half of a key: from the file that `keygen` printed, from a private key, or from a key service.

    Raises:
        InvalidRequest, ServiceUnavailable: As `open_signer` does.
        VerificationFailed: A file of a public half does not hold one.
    """
    written = read_if_there(Path(source)) if isinstance(source, Path) or ":" not in source else None
    if written is None or not written.lstrip().startswith(b"{"):
        return public_half(open_signer(source))
    given = KeyFile.from_bytes(written, source=str(source))
    return KeyFile(key_id=_key_id(given.key), key=given.key)


def _key_id(key: PublicKey) -> str:
    """The id that securesystemslib gives a key: a digest, so that nobody can name a key as another one."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        raw = key.public
        found: Any = (
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(raw))
            if key.scheme == "ed25519"
            else load_pem_public_key(raw.encode())
        )
        return SSlibKey.from_crypto(found, scheme=key.scheme).keyid
    except ValueError as error:
        raise InvalidRequest("This is not a public key.", where=key.scheme, actual=str(error)) from None


def _arguments(scheme: str, name: str) -> tuple[str, ...]:
    """What a service's signer is looked up by."""
    if scheme != "azurekms":
        return (name,)
    vault, _, key = name.removeprefix("//").partition("/keys/")
    return vault.removesuffix(".vault.azure.net"), key


def _unavailable(uri: str, error: Exception) -> ServiceUnavailable:
    return ServiceUnavailable(
        "The key service does not answer, or refuses.",
        where=uri,
        actual=f"{type(error).__name__}: {error}",
        hint="Check the name of the key, its kind (ECDSA P-256 for signing), and the right to use it.",
    )
