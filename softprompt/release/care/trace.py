"""From a served prompt back to where it came from: generation, commit, pull request, version, run, recipe, dataset, review.

Each link says how far it can be believed. *Verified*: digests and signatures lead there from the trust root. *Claimed*: somebody
who could have written anything else says so (a publisher about an MLflow version, MLflow about a run, a merge commit about a pull
request); claims that agree are worth more than one. *Missing*: it was there and is not any more. *Contradicted*: two disagree.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from softprompt.artifact import Sha256
from softprompt.documents import Document, parse_json
from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.release.audit.report import AuditReport
from softprompt.release.blobs import MAX_EVIDENCE_BYTES, Blobs
from softprompt.release.care.history import signed_by
from softprompt.release.channel import ChannelLog, Signed
from softprompt.release.planning.facts import GATE_REPORT
from softprompt.release.promotion.commit_source import CommitSource
from softprompt.release.statement import Approval

Standing = Literal["verified", "claimed", "missing", "contradicted"]
Lookup = Callable[[str, str], Mapping[str, str]]
"""(registered name, version) -> what the registry says about it; empty: there is no such version."""


class Link(Document):
    """One step back from a served prompt."""

    what: str
    value: str
    standing: Standing
    how: str
    """What the standing rests on."""


class Trace(Document):
    """Where a prompt comes from."""

    prompt: Sha256
    channel: str
    links: tuple[Link, ...]

    @property
    def is_consistent(self) -> bool:
        """Whether nothing contradicts anything."""
        return all(link.standing != "contradicted" for link in self.links)


@dataclass(frozen=True)
class Sources:
    """What there is to ask besides the channel itself; what is missing leaves links out."""

    audit: AuditReport | None = None
    commits: CommitSource | None = None
    registry: Lookup | None = None
    registry_uri: str = ""


@dataclass
class _Served:
    """The generations that name one prompt."""

    digest: str
    by: list[Signed] = field(default_factory=list)
    """Newest first."""

    @property
    def names(self) -> list[str]:
        return sorted(name for name, served in self.by[0].generation.state.prompts.items() if self.digest in served.digests)


def trace_prompt(log: ChannelLog, digest: str, sources: Sources) -> Trace:
    """Follow a prompt back as far as the evidence goes.

    Args:
        log: The channel that serves it, or did.
        digest: The prompt's, or how it begins (eight digits or more).
        sources: What else to ask.

    Raises:
        InvalidRequest: The channel has never served it, or several begin so.
        StoreUnavailable: The store does not answer.
    """
    chain = list(log.walk())
    served = _Served(_full_digest(chain, digest, log))
    served.by = [signed for signed in chain if served.digest in signed.generation.state.digests]
    approval = served.by[0].generation.state.approvals[served.digest]
    blobs = Blobs(log.store)
    report = _gate_report(blobs, approval)
    links = [
        *_generation_links(served, chain),
        *_prompt_links(blobs, served),
        *_approval_links(approval),
        *_evidence_links(blobs, approval, report, served.digest),
        *_commit_links(served, log.channel, sources.commits),
        *_registry_links(served, approval, report, sources),
        *_review_links(served.digest, sources.audit),
    ]
    return Trace(prompt=served.digest, channel=log.channel, links=tuple(links))


def _full_digest(chain: Sequence[Signed], digest: str, log: ChannelLog) -> str:
    known = {one for signed in chain for one in signed.generation.state.digests}
    found = sorted(one for one in known if len(digest) >= 8 and one.startswith(digest))
    if len(found) != 1:
        raise InvalidRequest(
            "Several prompts of this channel begin so." if found else "The channel has never served this prompt.",
            where=f"{log.store.uri}, channel {log.channel}, {len(chain)} generations",
            expected="sha256 of a prompt's manifest, or its first digits, eight or more",
            actual=digest,
            hint=", ".join(found),
        )
    return found[0]


def _generation_links(served: _Served, chain: Sequence[Signed]) -> Iterator[Link]:
    newest, first = served.by[0], served.by[-1]
    now = newest.generation.generation == chain[0].generation.generation
    numbers = f"{first.generation.generation} to {newest.generation.generation}" if newest is not first else ""
    yield Link(
        what="generations",
        value=f"{numbers or first.generation.generation}, {'served now' if now else 'not served any more'}, as "
        + (", ".join(served.names) or "(no name)"),
        standing="verified",
        how=f"signed by key {signed_by(newest)[:12]}; each generation names the digest of the one before",
    )
    yield Link(
        what="first served",
        value=f"generation {first.generation.generation}, signed {first.generation.created}",
        standing="verified",
        how=f"signed by key {signed_by(first)[:12]}",
    )


def _prompt_links(blobs: Blobs, served: _Served) -> Iterator[Link]:
    how = "the signed generation states the manifest's sha256, and the manifest the tensor's"
    try:
        manifest = blobs.prompt(served.digest).manifest
    except VerificationFailed as error:
        yield Link(what="prompt file", value=served.digest, standing="missing", how=error.actual or error.what)
        return
    yield Link(what="prompt file", value=f"{manifest.kind}, {manifest.num_tokens} tokens", standing="verified", how=how)
    yield Link(what="base model", value=manifest.base_fingerprint, standing="verified", how="the manifest states its fingerprint")


def _approval_links(approval: Approval) -> Iterator[Link]:
    how = "the publisher signed this statement"
    yield Link(what="gates verdict", value=f"{approval.verdict} ({approval.numerics})", standing="claimed", how=how)
    if approval.evaluated:
        yield Link(what="evaluated", value=approval.evaluated, standing="claimed", how=how)
    if approval.model_version:
        yield Link(what="MLflow version", value=approval.model_version, standing="claimed", how=how)


def _evidence_links(blobs: Blobs, approval: Approval, report: Mapping[str, Any], digest: str) -> Iterator[Link]:
    for name, blob in sorted(approval.evidence.items()):
        try:
            blobs.read(blob, max_bytes=MAX_EVIDENCE_BYTES)
            yield Link(what=f"evidence {name}", value=blob, standing="verified", how="the signed generation states its sha256")
        except VerificationFailed as error:
            yield Link(what=f"evidence {name}", value=blob, standing="missing", how=error.actual or error.what)
    if not report:
        return
    agrees = (report.get("prompt"), report.get("verdict")) == (digest, approval.verdict)
    yield Link(
        what="gate report",
        value=f"{report.get('verdict')}, about prompt {str(report.get('prompt'))[:12]}",
        standing="verified" if agrees else "contradicted",
        how="its bytes are verified, and it is " + ("" if agrees else "not ") + "about this prompt and verdict",
    )
    if dataset := report.get("dataset"):
        yield Link(
            what="dataset", value=str(dataset), standing="claimed", how="the gate report, whose bytes are verified, says so"
        )


def _commit_links(served: _Served, channel: str, commits: CommitSource | None) -> Iterator[Link]:
    commit = served.by[-1].generation.git_commit
    if not commit:
        yield Link(what="commit", value="(none)", standing="verified", how="the signed generation was not computed from Git")
        return
    stated = Link(what="commit", value=commit, standing="verified", how="the signed generation states it")
    if commits is None:
        yield stated
        return
    found = commits.find(channel, served.names, served.digest, commit)
    yield Link(what="commit", value=commit, standing=found.standing, how=f"the signed generation states it; {found.how}")
    if found.merge:
        yield Link(what="merged by", value=found.merge, standing=found.standing, how="the commit that brought the file's line in")
    if found.request:
        yield Link(what="pull request", value=found.request, standing="claimed", how="the merge commit's message says so")


def _registry_links(served: _Served, approval: Approval, report: Mapping[str, Any], sources: Sources) -> Iterator[Link]:
    if sources.registry is None or not approval.model_version:
        return
    name, _, version = approval.model_version.rpartition("/")
    says = sources.registry(name or (served.names or [""])[0], version)
    where = f"MLflow at {sources.registry_uri}"
    if not says:
        yield Link(what="MLflow run", value="", standing="missing", how=f"{where} has no such version")
        return
    checks = {"prompt": served.digest, "dataset": str(report.get("dataset") or "")}
    for key, expected in checks.items():
        if expected and says.get(key):
            agrees = says[key] == expected
            yield Link(
                what=f"MLflow's {key}",
                value=says[key],
                standing="claimed" if agrees else "contradicted",
                how=f"{where} says so, and {'agrees' if agrees else 'does not agree'} with what was signed",
            )
    for key, what in (("run_id", "MLflow run"), ("recipe", "recipe"), ("review.status", "review tag")):
        if says.get(key):
            yield Link(what=what, value=says[key], standing="claimed", how=f"{where} says so; who may edit there may change it")


def _review_links(digest: str, audit: AuditReport | None) -> Iterator[Link]:
    for entry in audit.entries if audit else ():
        judgement = entry.record.judgement
        if judgement.prompt == digest:
            yield Link(
                what="review decision",
                value=f"{judgement.decision} by {judgement.reviewer}, {entry.record.decided}",
                standing="verified",
                how=f"record {entry.record.number}, signed by {entry.holder or 'the key'} ({entry.key[:12]})",
            )


def _gate_report(blobs: Blobs, approval: Approval) -> Mapping[str, Any]:
    """The gate report's content; nothing if there is none or it cannot be read."""
    digest = approval.evidence.get(GATE_REPORT)
    try:
        data = blobs.read(digest, max_bytes=MAX_EVIDENCE_BYTES) if digest else b"{}"
        content = parse_json(data, source=GATE_REPORT, max_bytes=MAX_EVIDENCE_BYTES)
    except VerificationFailed:
        return {}
    return content if isinstance(content, dict) else {}
