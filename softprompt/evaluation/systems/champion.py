"""The champion: the prompt that the channel serves now under the recipe's name, on rows that it has not seen.

One of another base model is not asked, since that base may be anywhere and of any size: what it answered to the same test rows
when it was evaluated stands in its evidence. It is left out, with the reason as a note, where it cannot be compared: other test
rows, another task, or it cannot be had. A gate against it then stays undecided. Only a channel that serves nothing under the name
leaves neither answers nor a note.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase
from softprompt.data.input_digests import DIGITS, digests_of, is_among, read_seen_inputs
from softprompt.data.rows import Row
from softprompt.errors import ServiceUnavailable, VerificationFailed
from softprompt.evaluation.gate_report import GateReport
from softprompt.evaluation.observations import Answers, Booleans
from softprompt.evaluation.systems.base_system import BaseSystem
from softprompt.recipe import Recipe
from softprompt.release.blobs import MAX_EVIDENCE_BYTES, Blobs
from softprompt.release.store import open_store
from softprompt.resolve import ResolvedChampion
from softprompt.template import template_fields


@dataclass(frozen=True)
class Champion:
    """What is known of the champion.

    Attributes:
        system: How it is asked; None: it is not asked.
        comparable: `[n]`, test rows that it has not seen.
        note: A sentence about it.
        answers: What it answered before, where it is not asked; None: it cannot be compared with.
    """

    system: BaseSystem | None
    comparable: Booleans
    note: str
    answers: Answers | None = None


def find_champion(
    champion: ResolvedChampion, base: FrozenBase, recipe: Recipe, rows: Sequence[Row], blobs: Blobs | None = None
) -> Champion:
    """Fetch and verify the champion.

    Args:
        champion: Which prompt, and where.
        base: The base that rows are answered with.
        recipe: The recipe.
        rows: The test rows.
        blobs: Where its blobs are; None: in the store that `champion` names.
    """
    everything = np.ones(len(rows), dtype=bool)
    try:
        blobs = blobs or Blobs(open_store(champion.store))
        file = blobs.prompt(champion.prompt)
        if reason := _unlike(file, recipe):
            return Champion(None, everything, f"Not compared: {reason}.")
        if file.manifest.base_fingerprint != base.fingerprint:
            return _of_another_base(champion, file, base, rows, blobs)
        system = BaseSystem.of_file(base, file)
        if not champion.seen_inputs:
            return Champion(system, everything, "Its evidence does not say what it was tuned on, so no row could be left out.")
        seen = blobs.read(champion.seen_inputs, max_bytes=MAX_EVIDENCE_BYTES)
    except (ServiceUnavailable, VerificationFailed) as error:
        return Champion(None, everything, f"Not compared: it cannot be had. {' '.join(str(error).split())}")
    known = read_seen_inputs(seen, source=f"seen inputs of prompt {champion.prompt}")
    comparable = ~is_among(digests_of(rows), known)
    left_out = len(rows) - int(comparable.sum())
    return Champion(
        system, comparable, f"{left_out} of {len(rows)} test rows are left out: it was tuned on them." if left_out else ""
    )


def under_labels(answers: Answers, its_labels: Sequence[str], labels: Sequence[str]) -> Answers:
    """Answers with probabilities in the order of other labels; a label that it does not know has none."""
    if answers.probabilities is None or tuple(its_labels) == tuple(labels):
        return answers
    probabilities = np.zeros((len(answers.outputs), len(labels)))
    for place, label in enumerate(labels):
        if label in its_labels:
            probabilities[:, place] = answers.probabilities[:, list(its_labels).index(label)]
    return Answers(answers.outputs, probabilities)


def _of_another_base(
    champion: ResolvedChampion, file: PromptFile, base: FrozenBase, rows: Sequence[Row], blobs: Blobs
) -> Champion:
    """The champion by what it answered to the same rows when it was evaluated."""
    theirs, ours = file.manifest.base_fingerprint[:12], base.fingerprint[:12]
    everything = np.ones(len(rows), dtype=bool)
    why = f"it was tuned for another base model, {theirs}, and this one is {ours}"
    if not champion.gate_report:
        return Champion(None, everything, f"Not compared: {why}, and its evidence has no evaluation.")
    data = blobs.read(champion.gate_report, max_bytes=MAX_EVIDENCE_BYTES)
    report = GateReport.from_bytes(data, source=f"gate report of prompt {champion.prompt}")
    said = {(row.input, row.target): row.outputs.get("soft_prompt") for row in report.rows}
    outputs = [said.get((row.input_digest[:DIGITS], row.target)) for row in rows]
    if any(output is None for output in outputs):
        return Champion(None, everything, f"Not compared: {why}, and it was evaluated on other test rows.")
    answers = Answers(tuple(output or "" for output in outputs))
    return Champion(None, everything, f"By what it answered when it was evaluated: {why}.", answers)


def _unlike(file: PromptFile, recipe: Recipe) -> str:
    """Why a prompt cannot answer these rows; empty: it can."""
    manifest = file.manifest
    if manifest.task != recipe.task.type:
        return f"its task is a {manifest.task}, and this one a {recipe.task.type}"
    if missing := set(template_fields(manifest.template)) - set(recipe.input_columns):
        return f"its template needs columns that these rows lack: {', '.join(sorted(missing))}"
    return ""
