"""What is known about a prompt when a change is planned: the facts that a channel's policy asks for.

They come from the store, where each is verified by its digest, and the review's state from whoever looks it up.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from softprompt.artifact import Manifest
from softprompt.documents import parse_json
from softprompt.errors import VerificationFailed
from softprompt.names import PromptKind
from softprompt.release.blobs import MAX_EVIDENCE_BYTES
from softprompt.release.statement import Approval, Served

GATE_REPORT = "gate_report.json"
"""Name under which the evaluation's report is evidence."""

ReviewLookup = Callable[[str, str, str], str]
"""(registered name, version, prompt's digest) -> the version's tag `review.status`; empty: not set, or no such version."""


def not_reviewed(name: str, version: str, prompt: str) -> str:
    """The lookup where there is no registry to ask."""
    return ""


@dataclass(frozen=True)
class Gate:
    """How one gate of an evaluation ended."""

    name: str
    kind: str
    status: str


@dataclass(frozen=True)
class GateFacts:
    """What of an evaluation's report a plan looks at."""

    gates: tuple[Gate, ...]
    champion: str
    """Digest of the prompt that it was compared with; empty: none."""


@dataclass(frozen=True)
class PromptFacts:
    """What was verified about one prompt."""

    digest: str
    kind: PromptKind
    base_fingerprint: str
    approval: Approval
    review_status: str
    """The tag `review.status` of its version in MLflow; only `approved` counts."""
    evaluation: GateFacts | None = None
    """None: its evidence has no gate report, or it was not read because the channel serves this prompt already."""


@dataclass(frozen=True)
class Change:
    """What one name should mean from now on; None takes it away."""

    name: str
    served: Served | None
    file_owners: tuple[str, ...] | None = None
    """Who has to approve a change of the name's file, as CODEOWNERS says; None: nobody was asked."""


def prompt_facts(manifest: Manifest, approval: Approval, evidence: Mapping[str, bytes], review_status: str = "") -> PromptFacts:
    """The facts about a prompt.

    Args:
        manifest: The prompt's, verified.
        approval: About this prompt.
        evidence: File name -> verified bytes; may be empty.
        review_status: See `PromptFacts`.

    Raises:
        VerificationFailed: The gate report is about another prompt, or says another verdict than the approval.
    """
    report = evidence.get(GATE_REPORT)
    found = _gate_facts(report, approval) if report is not None else None
    return PromptFacts(approval.prompt, manifest.kind, manifest.base_fingerprint, approval, review_status, found)


def _gate_facts(data: bytes, approval: Approval) -> GateFacts:
    where = f"{GATE_REPORT} of prompt {approval.prompt}"
    report: Any = parse_json(data, source=where, max_bytes=MAX_EVIDENCE_BYTES)
    try:
        actual = f"{report['verdict']} for prompt {report['prompt']}"
        gates = tuple(Gate(str(gate["name"]), str(gate["kind"]), str(gate["status"])) for gate in report["gates"])
        champion = str(report.get("champion", ""))
    except (KeyError, TypeError, AttributeError):
        raise VerificationFailed("This is not a gate report.", where=where) from None
    expected = f"{approval.verdict} for prompt {approval.prompt}"
    if expected != actual:
        raise VerificationFailed(
            "An approval does not say what its gate report says.", where=where, expected=expected, actual=actual
        )
    return GateFacts(gates, champion)
