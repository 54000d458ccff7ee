"""Documents that travel between machines: strict to read, canonical to write.

Everything the project signs, hashes or passes between steps is a frozen pydantic model that extends `Document`. Reading is
strict (no unknown keys, no coercion, no NaN, no duplicate keys, a size cap first); writing gives the same bytes for the same
content, so that a sha256 over them is an identity.
"""

import hashlib
import json
import math
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from softprompt.errors import VerificationFailed


class Document(BaseModel):
    """A frozen model with strict types, no extra keys and finite numbers only; attribute docstrings are its help texts."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )

    max_bytes: ClassVar[int] = 4 * 1024 * 1024
    """Largest serialised form that is read, in bytes."""

    def to_bytes(self) -> bytes:
        """The canonical JSON of this document, UTF-8."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """sha256 of the canonical bytes, 64 hexadecimal digits."""
        return sha256_hex(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str) -> Self:
        """Read a document strictly.

        Args:
            data: UTF-8 JSON.
            source: Where the bytes come from, for the message.

        Raises:
            VerificationFailed: Too large, not JSON, duplicate keys, NaN, or not this document's schema.
        """
        return cls.from_content(parse_json(data, source=source, max_bytes=cls.max_bytes), source=source)

    @classmethod
    def from_content(cls, content: Any, *, source: str) -> Self:
        """Read a document from what `parse_json` gave. VerificationFailed: it is not this document's schema."""
        try:
            # JSON mode: strict types, yet a JSON list may fill a tuple.
            return cls.model_validate_json(canonical_json(content))
        except ValidationError as error:
            first = error.errors()[0]
            raise VerificationFailed(
                f"This is not a valid {cls.__name__} document.",
                where=f"{source}, key {'.'.join(str(part) for part in first['loc']) or '(top)'}",
                actual=first["msg"],
                hint="It was written by another version of softprompt, or was changed since.",
            ) from None


def canonical_json(content: Any) -> bytes:
    """Sorted keys, no spaces, UTF-8, shortest round-trip floats; NaN and lone surrogates raise ValueError."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse_json(data: bytes, *, source: str, max_bytes: int) -> Any:
    """Parse JSON from outside, refusing what the standard parser swallows: duplicate keys, NaN, infinity, lone surrogates.

    Raises:
        VerificationFailed: Naming the source and what is wrong with it.
    """
    if len(data) > max_bytes:
        raise VerificationFailed(
            "A document is larger than it may be.", where=source, expected=f"<= {max_bytes} bytes", actual=f"{len(data)} bytes"
        )
    try:
        content = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite
        )
        if b"\\u" in data:  # the only way for a lone surrogate to get into UTF-8
            canonical_json(content)
    except (ValueError, RecursionError) as error:
        raise VerificationFailed("A document is not strict JSON.", where=source, actual=str(error)) from None
    return content


def sha256_hex(data: bytes) -> str:
    """sha256 as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"duplicate key {key[:100]!r}")
        found[key] = value
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:100]} is out of range, so not JSON compliant here")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number that JSON knows")
