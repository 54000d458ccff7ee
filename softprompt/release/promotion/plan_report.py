"""Plans of one or several channels, for people and for programs: text, JSON, and a comment on the pull request."""

from collections.abc import Iterator, Sequence
from typing import Literal, Self

from softprompt.artifact import Sha256
from softprompt.documents import Document
from softprompt.errors import SoftpromptError
from softprompt.names import Name
from softprompt.release.planning.plan import Plan
from softprompt.release.statement import ChannelState, Generation, Served, Share

UNCHANGED, CHANGES, REFUSED = 0, 10, 11
"""What `plan --detailed-exitcode` ends with."""
COMMENT_MARK = "<!-- softprompt release plan -->"
"""First line of the comment, by which a workflow finds its own to replace it."""
MOST_COMMENT_CHARACTERS = 60_000
"""GitHub takes 65,536."""


class NameChange(Document):
    """What one name means before and after."""

    name: Name
    action: Literal["add", "change", "remove", "evidence"]
    """`evidence`: the same prompts, with other evidence."""
    before: Served | None
    after: Served | None
    versions: dict[Sha256, str]
    """Prompt digest -> version in MLflow, of every prompt on either side."""


class ChannelPlan(Document):
    """What a commit would change in a channel."""

    max_bytes = 64 * 1024 * 1024

    channel: Name
    outcome: Literal["change", "unchanged", "refused", "failed"]
    """`failed`: there is no plan, because a file is wrong or something that it names does not verify."""
    commit: str = ""
    generation: int = 0
    """The channel's newest, which the plan starts from; 0: it was not read."""
    reasons: tuple[str, ...] = ()
    """Why it is refused, or failed."""
    error_code: int = 0
    """Exit code of the error by which it failed."""
    warnings: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    changes: tuple[NameChange, ...] = ()

    @classmethod
    def of(cls, channel: str, commit: str, head: Generation, plan: Plan) -> Self:
        """The plan of a commit from a generation."""
        return cls(
            channel=channel,
            outcome=plan.outcome,
            commit=commit,
            generation=head.generation,
            reasons=plan.reasons,
            warnings=plan.warnings,
            differences=plan.differences,
            changes=tuple(_name_changes(head.state, plan.state)),
        )

    @classmethod
    def failure(cls, channel: str, error: SoftpromptError) -> Self:
        """A channel of which there is no plan."""
        return cls(channel=channel, outcome="failed", reasons=(str(error),), error_code=error.exit_code)


class PlanReport(Document):
    """The plans of all channels that were asked for."""

    max_bytes = 256 * 1024 * 1024

    schema_version: Literal[1] = 1
    channels: tuple[ChannelPlan, ...]

    @property
    def exit_code(self) -> int:
        """0 nothing to do, 10 changes that are allowed, 11 something is refused."""
        outcomes = {plan.outcome for plan in self.channels}
        return REFUSED if outcomes & {"refused", "failed"} else CHANGES if "change" in outcomes else UNCHANGED

    @property
    def error_code(self) -> int:
        """Exit code of the first channel that cannot be planned; 0: all can."""
        return next((plan.error_code for plan in self.channels if plan.error_code), 0)


def plan_lines(plan: ChannelPlan) -> Iterator[tuple[str, str]]:
    """A plan for a terminal, as (what kind of line, text): `title`, `+`, `~`, `-`, `refused`, `warning`."""
    title = {"change": "would change", "unchanged": "nothing to do", "refused": "refused", "failed": "no plan"}[plan.outcome]
    since = f", from generation {plan.generation} to commit {plan.commit[:12]}" if plan.commit else ""
    yield "title", f"{plan.channel}: {title}{since}"
    signs = {change.name: {"add": "+", "remove": "-"}.get(change.action, "~") for change in plan.changes}
    yield from ((signs.get(line.split(":")[0], "~"), line) for line in plan.differences)
    yield from (("refused", reason) for reason in plan.reasons)
    yield from (("warning", warning) for warning in plan.warnings)


def plan_markdown(report: PlanReport) -> str:
    """The plans as a comment on a pull request."""
    parts = [COMMENT_MARK, "## softprompt: what merging this would do", ""]
    if not report.channels:
        parts.append("No channel changes.")
    for plan in report.channels:
        parts += [*_channel_markdown(plan), ""]
    text = "\n".join(parts).rstrip() + "\n"
    if len(text) > MOST_COMMENT_CHARACTERS:
        text = text[:MOST_COMMENT_CHARACTERS].rsplit("\n", 1)[0] + "\n\n*Cut off; the job's log has all of it.*\n"
    return text


def _channel_markdown(plan: ChannelPlan) -> Iterator[str]:
    heading = {
        "change": "changes, and the policy allows them",
        "unchanged": "nothing to do",
        "refused": "**refused**",
        "failed": "**cannot be planned**",
    }[plan.outcome]
    yield f"### `{plan.channel}`: {heading}"
    if plan.changes:
        yield from ("", "| name | now | after |", "| --- | --- | --- |")
        for change in plan.changes:
            versions = change.versions
            yield f"| `{change.name}` | {_cell(change.before, versions)} | {_cell(change.after, versions)}{_note(change)} |"
    named = {change.name for change in plan.changes}
    others = [line for line in plan.differences if line.split(":")[0] not in named]
    for title, lines in (("", others), ("Why not", plan.reasons), ("Know that", plan.warnings)):
        if lines:
            yield from ("", *((f"{title}:", "") if title else ()), *(f"- {_escaped(line)}" for line in lines))
    if plan.commit:
        yield from ("", f"From generation {plan.generation} to commit `{plan.commit[:12]}`.")


def _note(change: NameChange) -> str:
    return " (other evidence)" if change.action == "evidence" else ""


def _cell(served: Served | None, versions: dict[str, str]) -> str:
    if served is None:
        return "nothing"
    lines = [f"base `{base[:12]}`: {_shares(shares, versions)}" for base, shares in sorted(served.bases.items())]
    lines += [f"shadow: {_prompt(digest, versions)}" for digest in served.shadow]
    lines += [f"pinnable: {_prompt(digest, versions)}" for digest in served.pinnable]
    return "<br>".join([*lines, *(["pinned"] if served.pinned else [])])


def _shares(shares: Sequence[Share], versions: dict[str, str]) -> str:
    total = sum(share.weight for share in shares)
    percents = (f" {100 * share.weight / total:.3g} %" if len(shares) > 1 else "" for share in shares)
    return ", ".join(f"{_prompt(share.prompt, versions)}{percent}" for share, percent in zip(shares, percents, strict=True))


def _prompt(digest: str, versions: dict[str, str]) -> str:
    version = versions.get(digest, "")
    return f"version {_escaped(version)} (`{digest[:12]}`)" if version else f"`{digest[:12]}`"


def _escaped(line: str) -> str:
    """Text from files and messages, so that it stays one item of a list, nothing but text, and calls nobody."""
    flat = " ".join(line.split()).replace("@", "@\u200b")
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in flat)


def _name_changes(before: ChannelState, after: ChannelState) -> Iterator[NameChange]:
    approvals = before.approvals | after.approvals
    for name in sorted(before.prompts.keys() | after.prompts.keys()):
        old, new = before.prompts.get(name), after.prompts.get(name)
        used = (old.digests if old else frozenset[str]()) | (new.digests if new else frozenset[str]())
        again = new is not None and any(before.approvals.get(digest) != after.approvals[digest] for digest in new.digests)
        if old != new or again:
            action: Literal["add", "change", "remove", "evidence"] = (
                "evidence" if old == new else "add" if old is None else "remove" if new is None else "change"
            )
            versions = {digest: approvals[digest].model_version for digest in sorted(used)}
            yield NameChange(name=name, action=action, before=old, after=new, versions=versions)
