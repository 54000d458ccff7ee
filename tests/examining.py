"""Datasets under examination in tests: a sound set of tickets, and what validation says of a file."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from softprompt.data.dataset import DatasetManifest
from softprompt.data.rows import Finding
from softprompt.data.validate import examine, refuse, validate_dataset
from softprompt.embedded.fault_kinds import Row
from softprompt.embedded.tickets import generate_tickets
from softprompt.errors import DatasetRefused
from softprompt.resolve import ResolvedRecipe, resolve_recipe

QUEUES = ("goods in", "payouts", "road", "workshop")
RECIPE = """\
schema_version: 1
name: tickets
channel: laptop
base_model: {{uri: "embedded://base"}}
dataset:
  uri: "{file}"
  target_column: {target}
  on_finding: {actions}
  {dataset}
task: {{type: classification, template: "{{text}}\\n\\nQueue:"{task}}}
prompt: {{kind: shallow, num_tokens: 4}}
training: {{steps: 6, batch_size: 8, warmup_steps: 1, validate_every_steps: 3}}
gates:
  - {{metric: accuracy, at_least: 0.1}}
"""


def sound_tickets(num_rows: int = 160) -> list[Row]:
    """Tickets of four queues, in which nothing is wrong but their number."""
    rows = [row for row in generate_tickets(num_rows * 6, seed=5) if row["queue"] in QUEUES]
    return rows[:num_rows]


def jsonl(rows: list[Row]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def resolved(
    folder: Path,
    files: Mapping[str, bytes],
    *,
    dataset: str = "",
    task: str = "",
    uri: str = "",
    target: str = "queue",
    **actions: str,
) -> ResolvedRecipe:
    """The recipe of a dataset. It does not look for wrong labels unless it is told to: one row in a hundred is a false alarm.

    Args:
        folder: For the files.
        files: Name -> content; the first is the dataset unless `uri` says otherwise.
        dataset: More of the recipe's `dataset`, lines of YAML.
        task: More of its `task`, as `, key: value`.
        uri: The dataset.
        target: The column with the label.
        **actions: More of its `dataset.on_finding`.
    """
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    recipe = folder / "recipe.yaml"
    more = dataset.strip().replace("\n", "\n  ")
    acted = json.dumps({"wrong_labels": "ignore"} | actions)
    text = RECIPE.format(file=uri or next(iter(files)), target=target, actions=acted, dataset=more, task=task)
    recipe.write_text(text, encoding="utf-8")
    return resolve_recipe(str(recipe))


@dataclass(frozen=True)
class Said:
    """What was said of a dataset.

    Attributes:
        findings: All of them.
        refusal: The error in words; empty for a dataset that was taken.
    """

    findings: tuple[Finding, ...]
    refusal: str = ""

    def lines(self, check: str) -> list[int]:
        """Numbers of the lines that a check names, over all its findings, sorted."""
        places = [place for found in self.findings if found.check == check for place in found.places]
        return sorted({int(re.search(r":(\d+)", place)[1]) for place in places})  # type: ignore[index]

    def severities(self, check: str) -> set[str]:
        """What a check's findings led to."""
        return {found.severity for found in self.findings if found.check == check}

    @property
    def checks(self) -> set[str]:
        """Checks that found something; `few_rows` is true of every small set and goes without saying."""
        return {found.check for found in self.findings} - {"few_rows"}


def said_of(recipe: ResolvedRecipe, folder: Path) -> Said:
    """Examine a dataset."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    try:
        data = examine(recipe, scratch).data
    except DatasetRefused as error:
        return Said((), str(error))
    try:
        refuse(data, source=recipe.dataset.uri)
    except DatasetRefused as error:
        return Said(tuple(data.findings), str(error))
    return Said(tuple(data.findings))


def artifact(recipe: ResolvedRecipe, folder: Path, name: str = "dataset") -> DatasetManifest:
    """The dataset that the step makes, in `folder / name`, with its page beside it."""
    return validate_dataset(recipe, folder / name, folder / f"{name}.html")
