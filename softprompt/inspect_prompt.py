"""From what a person calls a prompt to what it learned: find the prompt, its base and rows to read, and inspect it.

A prompt is named by its directory, by the name of its recipe (then the newest run on this laptop is meant), or by its digest. A
run knows which base its prompt was tuned for and has validation rows; for a directory from elsewhere both can be given.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipelines.local import LocalRun
from softprompt.artifact import MANIFEST_FILE, Manifest, PromptFile
from softprompt.base_model import FrozenBase, load_base_model
from softprompt.data.contract import Contract
from softprompt.data.dataset import read_part
from softprompt.data.ingest import Faults, iter_rows
from softprompt.engine.encoding import TextEncoder
from softprompt.errors import DatasetRefused, InvalidRequest
from softprompt.fetch import absolute_uri, fetch_base, fetch_dataset
from softprompt.inspection.inspection import Inspection, inspect_prompt
from softprompt.recipe.dataset import DatasetSpec
from softprompt.resolve import ResolvedRecipe
from softprompt.settings import Settings
from softprompt.template import template_fields

DEFAULT_BASE = "embedded://base"
SHORTEST_DIGEST = 8


@dataclass(frozen=True)
class FoundPrompt:
    """A prompt that a person named.

    Attributes:
        name: What to call it.
        directory: Of its prompt file.
        resolved: The recipe of the run that tuned it; None: it is not from a run here.
        dataset: That run's dataset artifact.
    """

    name: str
    directory: Path
    resolved: ResolvedRecipe | None
    dataset: Path | None

    def base_uri(self, given: str = "") -> str:
        """URI of its base model: the given one, else its run's, else the embedded one."""
        if given:
            return absolute_uri(given, Path.cwd())
        return self.resolved.base.uri if self.resolved else DEFAULT_BASE


def inspect_named_prompt(
    settings: Settings,
    given: str,
    *,
    base_uri: str = "",
    dataset: str = "",
    num_rows: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Inspect a prompt.

    Args:
        settings: Where the laptop's runs lie.
        given: A directory, a name, a digest; empty: the newest run's prompt.
        base_uri: Its base model; empty: as its run says, else the embedded one.
        dataset: A file with rows that are to pay attention; empty: the run's validation rows, else the manifest's examples.
        num_rows: How many of them, at most.
        progress: Called with (vocabulary tokens done, all).

    Raises:
        InvalidRequest: There is no such prompt.
        FingerprintMismatch: It was tuned for another base.
        DatasetRefused: The file's rows do not fit the prompt's template.
        VerificationFailed: The prompt file does not verify.
    """
    found = find_prompt(given, settings.runs)
    file = PromptFile.read(found.directory)
    uri = found.base_uri(base_uri)
    dtype = found.resolved.recipe.base_model.dtype if found.resolved else "float32"
    base = load_base_model(fetch_base(uri), dtype=dtype, expected_fingerprint=file.manifest.base_fingerprint)
    rows_from, rows = _rows(found, file.manifest, base, dataset, num_rows)
    return inspect_prompt(file, base, rows, name=found.name, rows_from=rows_from, base_uri=uri, progress=progress)


def find_prompt(given: str, runs: Path) -> FoundPrompt:
    """The prompt that a person means.

    Args:
        given: A directory, a recipe's name, a digest or its beginning; empty: the newest.
        runs: Folder of the runs on this machine.

    Raises:
        InvalidRequest: There is none.
    """
    directory = Path(given).expanduser() if given else None
    if directory and (directory / MANIFEST_FILE).is_file():
        digest = PromptFile.read(directory).digest
        run = next((run for run in _runs(runs) if run["prompt"] == digest), None)
        return _of_run(run, directory, str(directory)) if run else FoundPrompt(str(directory), directory, None, None)
    digest = given.removeprefix("sha256:")
    for run in _runs(runs):
        is_digest = len(digest) >= SHORTEST_DIGEST and run["prompt"].startswith(digest)
        if not given or given == run["name"] or is_digest:
            place = LocalRun(Path(run["folder"])).output("tune_prompt", "prompt")
            if place:
                return _of_run(run, place, run["name"])
    raise _no_such_prompt(given, runs)


def find_run(given: str, runs: Path) -> LocalRun:
    """The newest run on this machine of the prompt that a person means. Arguments and errors as in `find_prompt`."""
    digest = PromptFile.read(find_prompt(given, runs).directory).digest
    return next(LocalRun(Path(run["folder"])) for run in _runs(runs) if run["prompt"] == digest)


def _runs(runs: Path) -> list[dict[str, str]]:
    """Summaries of the finished runs here, newest first."""
    return [
        json.loads(path.read_bytes()) | {"folder": str(path.parent)} for path in sorted(runs.glob("*/summary.json"), reverse=True)
    ]


def _of_run(run: dict[str, str], directory: Path, name: str) -> FoundPrompt:
    outputs = LocalRun(Path(run["folder"]))
    recipe, dataset = outputs.output("resolve_recipe", "resolved_recipe"), outputs.output("validate_dataset", "dataset")
    resolved = ResolvedRecipe.from_bytes(recipe.read_bytes(), source=str(recipe)) if recipe else None
    return FoundPrompt(name, directory, resolved, dataset)


def _no_such_prompt(given: str, runs: Path) -> InvalidRequest:
    names = sorted({run["name"] for run in _runs(runs)})
    return InvalidRequest(
        "There is no such prompt on this machine." if given else "No run on this machine has left a prompt yet.",
        where=given or str(runs),
        expected=f"the directory of a prompt file{', or one of ' + ', '.join(names) if names else ''}",
        actual="a directory without " + MANIFEST_FILE if given and Path(given).expanduser().is_dir() else "",
        hint="`softprompt demo` makes one; SOFTPROMPT_HOME says where runs lie.",
    )


def _rows(
    found: FoundPrompt, manifest: Manifest, base: FrozenBase, dataset: str, num_rows: int
) -> tuple[str, Sequence[Sequence[int]]]:
    """(where they come from, token ids of each) of the rows that are to pay attention."""
    if dataset:
        source, values = Path(dataset).name, _values_of_file(dataset, manifest.template, num_rows)
    elif found.dataset and num_rows:
        source, values = "validation rows of its run", [row.inputs for row in read_part(found.dataset, "validation")[:num_rows]]
    else:
        return "the three examples of its manifest", [example.token_ids for example in manifest.template_examples]
    return source, TextEncoder(base.text, manifest.template).all_input_ids(values)


def _values_of_file(dataset: str, template: str, num_rows: int) -> list[dict[str, str]]:
    """Values of the template's fields in a file's first rows; nothing else of a row is looked at."""
    fields = template_fields(template)
    uri = absolute_uri(dataset, Path.cwd())
    contract, faults = Contract(DatasetSpec(uri=uri, target_column=fields[0]), fields), Faults()
    rows = list(islice(iter_rows([(fetch_dataset(uri), False)], contract, faults), num_rows))
    if not rows:
        raise DatasetRefused(
            "No row of the dataset fits the prompt's template.",
            where=dataset,
            expected=f"columns {', '.join(fields)}",
            actual=faults.first[0][1] if faults.count else "no rows",
        )
    return [row.inputs for row in rows]
