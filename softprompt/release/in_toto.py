"""in-toto Statements v1: a document of ours as the predicate, the digests of the prompts that it is about as subjects.

Generations and review decisions are both signed in this form; the predicate's type, which is part of what is signed, keeps one
from being taken for the other. Format: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from softprompt.documents import Document, canonical_json, parse_json, sha256_hex
from softprompt.errors import VerificationFailed

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

_D = TypeVar("_D", bound=Document)


@dataclass(frozen=True)
class StatementType(Generic[_D]):
    """One kind of statement."""

    predicate_type: str
    document: type[_D]
    subjects: Callable[[_D], Iterable[str]]
    """The digests of the prompts that a document is about."""
    name: str
    """For messages."""

    def write(self, predicate: _D) -> bytes:
        """The canonical bytes to sign."""
        return canonical_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"digest": {"sha256": digest}} for digest in sorted(self.subjects(predicate))],
                "predicateType": self.predicate_type,
                "predicate": predicate.model_dump(mode="json"),
            }
        )

    def read(self, data: bytes, *, source: str) -> _D:
        """Read a statement strictly; its signature must have been verified.

        Args:
            data: The payload of an envelope.
            source: Where it comes from, for messages.

        Raises:
            VerificationFailed: Of another type or a version that this softprompt does not know, not canonical, or its subjects
                are not its prompts.
        """
        content: Any = parse_json(data, source=source, max_bytes=self.document.max_bytes)
        kind = content.get("predicateType") if isinstance(content, dict) else None
        if kind != self.predicate_type:
            raise VerificationFailed(
                f"A signed statement is not about a {self.name} that this softprompt understands.",
                where=source,
                expected=self.predicate_type,
                actual=str(kind),
                hint="Update softprompt on this machine.",
            )
        predicate = self.document.from_content(content.get("predicate"), source=source)
        written = self.write(predicate)
        if written != data:
            raise VerificationFailed(
                "A signed statement is not in the one form that its content has.",
                where=source,
                expected=f"canonical bytes with sha256 {sha256_hex(written)}",
                actual=f"sha256 {sha256_hex(data)}",
            )
        return predicate
