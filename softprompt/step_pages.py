"""What the pages of tuning, registering and publishing say in the Kubeflow UI: what was done, where it lies, what is next.

Markdown, since that is what the UI draws with links in it. Everything measured has pages of its own.
"""

from softprompt.registry import Registration
from softprompt.release.publish_prompt import PublishOutcome

MOST_DIFFERENCES = 20


def tuning_page(name: str, run_id: str, run_url: str) -> str:
    """Where the training's curves are.

    Args:
        name: Of the prompt.
        run_id: Of the MLflow run.
        run_url: Its page; empty where there is none.
    """
    return f"# {name}: training\n\n{_linked('MLflow run', run_id, run_url)}: curves, parameters, the resolved recipe.\n"


def registration_page(name: str, registered: Registration) -> str:
    """What was recorded, and how it is reviewed.

    Args:
        name: Of the prompt.
        registered: By `register_prompt`.
    """
    version = f"{name}@{registered.version}"
    if registered.version:
        title, review = f"# {name}: version {registered.version}, in review", f"Review it: `softprompt review show {version}`"
        lines = [f"{_linked('Version', version, registered.version_url)}: what a reviewer reads."]
    else:
        title, review, lines = f"# {name}: no version", "", ["The gates rejected it, so there is no version to review."]
    lines.append(f"{_linked('MLflow run', registered.run_id, registered.run_url)}: measurements, tables, pages, evidence.")
    lines += [f"Prompt: `{registered.prompt}`", f"Verdict: **{registered.verdict}**", review]
    return "\n".join([title, "", *(f"- {line}" for line in lines if line), ""])


def publication_page(name: str, version: str, outcome: PublishOutcome) -> str:
    """What became of the publish.

    Args:
        name: Of the prompt.
        version: In the registry.
        outcome: Of `publish_prompt`.
    """
    title = f"# {outcome.channel}: {outcome.outcome}" + (f", generation {outcome.generation}" if outcome.generation else "")
    reasons = [f"- {line}" for line in (*outcome.reasons, *outcome.warnings)]
    differences = [f"- {line}" for line in outcome.differences[:MOST_DIFFERENCES]]
    lines = [title, "", *reasons]
    if differences:
        lines += ["", "## What changed" if outcome.outcome == "published" else "## What would change", "", *differences]
    if outcome.outcome == "proposed":
        command = f"softprompt release propose {name} {version} --channel {outcome.channel}"
        lines += ["", "## Next", "", f"In a checkout of the promotion repository: `{command}`, then open the pull request."]
    return "\n".join([*lines, ""])


def _linked(what: str, name: str, url: str) -> str:
    return f"[{what} {name}]({url})" if url else f"{what} `{name}`"
