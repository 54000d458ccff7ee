"""A prompt that stock PEFT saved, as a prompt file of ours.

PEFT records vectors and a kind. What else determines what a prompt does, template, task and labels, comes from a recipe; whose
base it is, from whoever imports it. The result is checked as serving checks what it is given, and only then written.
"""

from pathlib import Path

from softprompt.artifact import MANIFEST_FILE, Answer, PromptFile
from softprompt.base_model import FrozenBase, load_base_model
from softprompt.engine.encoding import answers_for
from softprompt.engine.fit import fitting_prompt
from softprompt.engine.real_tokens import base_shape
from softprompt.engine.strategy import check_length
from softprompt.engine.task import EncodedTask
from softprompt.errors import InvalidRecipe, InvalidRequest
from softprompt.fetch import absolute_uri, fetch_base
from softprompt.peft_checkpoint import read_peft_prompt
from softprompt.recipe.reader import read_recipe
from softprompt.recipe.task import TaskSpec
from softprompt.resolve import find_recipe


def import_prompt(directory: Path, recipe: str, out: Path, *, base_uri: str = "", task: int | None = None) -> PromptFile:
    """Write the prompt file of a PEFT checkpoint.

    Args:
        directory: Of the checkpoint.
        recipe: A packaged name, or a path: its `task` says template, labels and verbalisers.
        out: Directory to write; must not exist, or be empty.
        base_uri: The base that the prompt was trained on; empty: the recipe's.
        task: Which task of a multitask prompt, from 0.

    Raises:
        InvalidRequest: `directory` is no checkpoint.
        InvalidRecipe: The recipe is wrong, or lists no labels for a classification.
        VerificationFailed, FingerprintMismatch: As `read_peft_prompt` and `fitting_prompt` say.
    """
    if not directory.is_dir() or (directory / MANIFEST_FILE).exists():
        raise InvalidRequest(
            "There is no PEFT checkpoint to import.",
            where=str(directory),
            expected="a directory that PEFT's save_pretrained wrote",
            actual="a prompt file, which needs no import" if directory.is_dir() else "no directory",
        )
    text, source, folder = find_recipe(recipe)
    parsed = read_recipe(text, source=source)
    uri = absolute_uri(base_uri, Path.cwd()) if base_uri else absolute_uri(parsed.base_model.uri, folder)
    base = load_base_model(fetch_base(uri), dtype=parsed.base_model.dtype)
    file = prompt_of_checkpoint(directory, parsed.task, base, source=source, task=task)
    file.write(out, base_uri=uri, encoder_decoder=base.is_encoder_decoder)
    return file


def prompt_of_checkpoint(
    directory: Path, spec: TaskSpec, base: FrozenBase, *, source: str, task: int | None = None
) -> PromptFile:
    """The prompt of a PEFT checkpoint, checked against its base.

    Args:
        directory: Of the checkpoint.
        spec: What the prompt has to do.
        base: The base that it was trained on.
        source: Of `spec`, for messages.
        task: Which task of a multitask prompt, from 0.
    """
    found = read_peft_prompt(directory, base_shape(base), task=task)
    encoded = EncodedTask.create(base.text, spec.template, _answers(spec, source))
    file = PromptFile.build(
        found.values,
        dtype=found.dtype,
        task=spec.type,
        template=spec.template,
        template_examples=encoded.encoder.examples(),
        answers=encoded.answers,
        max_new_tokens=spec.max_new_tokens,
        base_fingerprint=base.fingerprint,
    )
    check_length(base, fitting_prompt(base, file).num_tokens, 1)
    return file


def _answers(spec: TaskSpec, source: str) -> tuple[Answer, ...]:
    if spec.type == "classification" and not spec.labels:
        raise InvalidRecipe(
            "A prompt that is imported has no training rows that could say its labels.",
            where=f"{source}, key task.labels",
            expected="every label that the prompt was trained on",
            hint="List them, and in task.verbalisers the texts by which the model says them.",
        )
    return answers_for(tuple(sorted(spec.labels)), spec.verbalisers)
