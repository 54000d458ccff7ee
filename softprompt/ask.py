"""Answer one text with a prompt that a channel serves: what a serving node does, once, for a person at a terminal."""

import json
from dataclasses import dataclass

from softprompt.base_model import load_base_model
from softprompt.deployment import channel_reader
from softprompt.engine.predictor import Predictor
from softprompt.evaluation.gate_report import GateReport
from softprompt.fetch import fetch_base
from softprompt.release.snapshot import Snapshot
from softprompt.serving.bank import PromptBank
from softprompt.serving.follower import Follower
from softprompt.serving.routing import unknown_prompt
from softprompt.settings import Settings
from softprompt.template import values_for

GATE_REPORT = "gate_report.json"


@dataclass(frozen=True)
class Answer:
    """What `ask` shows."""

    soft_prompt: str
    confidence: float
    bare_base: str
    """Empty unless asked for."""
    digest: str
    generation: int
    alarms: tuple[str, ...]


def ask_prompt(settings: Settings, channel: str, name: str, text: str, *, base_uri: str = "", compare: bool = False) -> Answer:
    """Follow a channel, verify, load base and prompt, answer.

    Args:
        settings: Store, trust root, state.
        channel: To follow.
        name: `NAME` or `NAME@sha256:DIGEST`.
        text: The input text, or JSON for a template with several fields.
        base_uri: The base model; empty: the one that the prompt's evidence names.
        compare: Whether to ask the bare base, too.

    Raises:
        UnknownPrompt: The channel does not serve it.
        FingerprintMismatch: `base_uri` is not the base it was trained on.
    """
    reader = channel_reader(settings, channel)
    report = gate_report_of(reader.refresh(), name)
    base = load_base_model(fetch_base(base_uri or report.base_uri), dtype=report.numerics)
    follower = Follower(reader, base.fingerprint)
    route = follower.route(name)
    warm = PromptBank(base).get(route.digest, route.snapshot)
    values = values_for(warm.manifest.template, _given(text))
    prediction = warm.predictor.predict([values])[0]
    bare = Predictor(base, warm.predictor.task, None, max_new_tokens=warm.manifest.max_new_tokens) if compare else None
    return Answer(
        soft_prompt=prediction.output,
        confidence=prediction.confidence,
        bare_base=bare.predict([values])[0].output if bare else "",
        digest=route.digest,
        generation=route.snapshot.generation,
        alarms=route.snapshot.alarms,
    )


def gate_report_of(snapshot: Snapshot, name: str) -> GateReport:
    """The evidence of a prompt: it says where the base lies that it was evaluated on, and in which number format.

    Raises:
        UnknownPrompt: The channel does not serve the name.
    """
    served = snapshot.prompts.get(name.partition("@")[0])
    if served is None:
        raise unknown_prompt(name, snapshot, sorted(snapshot.prompts))
    digest = next(iter(served.bases.values()))[0].prompt
    return GateReport.from_bytes(snapshot.evidence(digest, GATE_REPORT), source=f"evidence of {name}")


def _given(text: str) -> str | dict[str, str]:
    """A JSON object of texts as such; anything else is the text itself."""
    try:
        content = json.loads(text)
    except ValueError:
        return text
    is_values = isinstance(content, dict) and all(isinstance(value, str) for value in content.values())
    return content if is_values else text
