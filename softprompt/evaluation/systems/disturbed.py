"""The soft prompt on disturbed inputs: for every robustness gate, and for what the recipe wants to see besides."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from softprompt.data.dataset import iter_part
from softprompt.data.rows import PARTS, Row
from softprompt.evaluation.observations import Disturbed
from softprompt.evaluation.perturbations import DisturbedInputs, Inputs, perturb
from softprompt.evaluation.perturbations.paraphrases import read_paraphrases
from softprompt.evaluation.systems.answering import Answering
from softprompt.evaluation.systems.base_system import BaseSystem
from softprompt.fetch import fetch_verified
from softprompt.recipe.gates import Perturbation
from softprompt.resolve import MOST_BYTES, ResolvedFile, ResolvedRecipe

SEED = 0
"""One for all, so that every prompt meets the same disturbed rows."""
MOST_EXAMPLES = 3


def disturbed_answers(
    answering: Answering, soft: BaseSystem, rows: Sequence[Row], dataset: Path, answer_room: int
) -> Iterator[tuple[Perturbation, Disturbed]]:
    """The soft prompt's answers to every disturbance that the recipe names.

    Args:
        answering: How rows are answered.
        soft: The base behind the prompt.
        rows: The clean test rows.
        dataset: Dataset artifact, whose ids paraphrases may name.
        answer_room: Tokens that an answer may take. Disturbed rows that no longer fit into the context beside it are left out.

    Raises:
        InvalidRequest: The file of paraphrases is wrong.
        VerificationFailed, StoreUnavailable: It cannot be had, or changed since the run began.
    """
    resolved, columns = answering.resolved, answering.resolved.recipe.input_columns
    fits = _fits(soft, answer_room)
    for kind in wanted(resolved):
        paraphrases = _paraphrases(resolved.paraphrases, columns, dataset) if kind == "paraphrases" else None
        made = _that_fit(perturb(kind, rows, columns=columns, seed=SEED, paraphrases=paraphrases, fits=fits), fits)
        asked = [replace(rows[row], inputs=inputs) for row, inputs in zip(made.rows, made.inputs, strict=True)]
        pairs = [(_shown(rows[row].inputs), _shown(inputs)) for row, inputs in zip(made.rows, made.inputs, strict=True)]
        changed = tuple(pair for pair in pairs if pair[0] != pair[1])[:MOST_EXAMPLES]
        yield kind, Disturbed(made.rows, answering(soft, asked), changed)


def wanted(resolved: ResolvedRecipe) -> list[Perturbation]:
    """The disturbances that gates judge, then those that are only reported; each once."""
    recipe = resolved.recipe
    judged = [gate.perturbation for gate in recipe.gates if gate.kind == "robustness"]
    return list(dict.fromkeys([*judged, *recipe.evaluation.perturbations]))


def _fits(soft: BaseSystem, answer_room: int) -> Callable[[Inputs], bool]:
    """Whether a row with such inputs has room beside the prompt and its answer."""
    prompt = soft.prompt.num_tokens if soft.prompt else 0
    room = soft.base.text.context_tokens - prompt - answer_room
    return lambda inputs: len(soft.task.encoder.input_ids(inputs)) <= room


def _that_fit(made: DisturbedInputs, fits: Callable[[Inputs], bool]) -> DisturbedInputs:
    kept = [place for place, inputs in enumerate(made.inputs) if fits(inputs)]
    return DisturbedInputs(made.rows[kept], tuple(made.inputs[place] for place in kept))


def _paraphrases(file: ResolvedFile | None, columns: Sequence[str], dataset: Path) -> Mapping[str, Inputs] | None:
    if file is None:
        return None
    ids = {row.id for part in PARTS for row in iter_part(dataset, part)}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(file.uri).name
        copy.write_bytes(fetch_verified(file.uri, file.sha256, max_bytes=MOST_BYTES))
        return read_paraphrases(copy, columns=columns, ids=ids)


def _shown(inputs: Inputs) -> str:
    return "\n".join(inputs.values())
