"""A trust root that was signed before there were audit keys stays readable for ever, and stays the same bytes.

`v1/trust_root.json` was written by softprompt at commit 6290439 and is never written again.
"""

from pathlib import Path

from softprompt.documents import sha256_hex
from softprompt.release import envelope
from softprompt.release.trust import load_trust_root

FILE = Path(__file__).parent / "v1" / "trust_root.json"
DIGEST = "bb529fe7683a5ff8a219705c2588ebc51780280c73fba8aa6011fb6da2059f58"


def test_it_still_verifies():
    assert sha256_hex(FILE.read_bytes()) == DIGEST
    root = load_trust_root(FILE)
    assert (root.schema_version, root.version, root.channels["staging"].id) == (1, 3, "a" * 32)
    assert [key.scheme for key in root.keys_for("staging")] == ["ed25519"]
    assert [key.scheme for key in root.keys_for("production")] == ["ecdsa-sha2-nistp256"]
    assert root.audit_keys_for("staging", 1) == ()


def test_its_content_is_written_as_it_was_signed():
    assert load_trust_root(FILE).to_bytes() == envelope.peek(FILE.read_bytes(), source=str(FILE))
