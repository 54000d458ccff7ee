"""The gap between groups and the accuracy with and without `training.fairness`, on tickets with a planted subgroup bias.

    python -m tests.bench.fairness [--quick] [--json FILE] [--kept FOLDER]

18,800 embedded tickets, 8,800 to train on and 8,800 to test on, about 2,200 of each of four regions in both; 55 % of one region's
tickets are labelled with one queue, whatever they are about (`softprompt.embedded.bias`). The demo's deep prompt on the embedded
base, 200 steps, three seeds, without an objective, with the gap's and the adversary's at their default weights, and with more of
the gap's. Gaps are fairlearn's, the worst label's: of shares (demographic parity), and of true-positive rates by what is truly
right (equal opportunity). Accuracy is given by the true labels, and by the labels as they are, where a fair prompt has to lose
what the habit was worth. What is finished is kept in a folder: run it again and it goes on.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fairlearn.metrics import demographic_parity_difference, equal_opportunity_difference
from numpy.typing import NDArray

from softprompt.data.dataset import read_part
from softprompt.data.rows import Row
from softprompt.data.validate import validate_dataset
from softprompt.embedded.bias import plant_bias
from softprompt.embedded.tickets import generate_tickets, write_jsonl
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.recipe.training import FAIRNESS_WEIGHTS, Candidate, FairnessMethod
from softprompt.resolve import resolve_recipe
from softprompt.tuning.job import Job
from softprompt.tuning.loop import LoopState, run_loop
from softprompt.tuning.workers import Workers
from tests.bench.rows import BenchRow, bench_arguments, show
from tests.variations import job_with

TRAIN, VALIDATION, TEST, RATE = 8_800, 1_200, 8_800, 0.55
RECIPE = """\
schema_version: 1
name: biased-tickets
channel: none
base_model: {uri: "embedded://base"}
dataset:
  uri: tickets.jsonl
  target_column: queue
  id_column: id
  subgroup_columns: [region, true_queue]
  split_column: split
  split: {test: 0}
  on_finding: {near_duplicates: ignore, leakage: ignore, wrong_labels: ignore, poison: ignore}
task: {type: classification, template: "{text}\\n\\nQueue:"}
prompt: {kind: deep, num_tokens: 20}
training: {steps: 200, batch_size: 32, fairness: {column: region}}
gates: [{metric: accuracy, at_least: 0.5}]
"""
SYSTEMS: dict[str, tuple[FairnessMethod, float]] = {
    "without": ("gap", 0.0),
    "gap": ("gap", FAIRNESS_WEIGHTS["gap"]),
    "gap, weight 10": ("gap", 10.0),
    "adversary": ("adversary", FAIRNESS_WEIGHTS["adversary"]),
}
Strings = NDArray[np.str_]


def load_job(folder: Path) -> tuple[Job, list[Row]]:
    """The biased tickets as a job, and their test rows; made once in a folder."""
    recipe = folder / "recipe.yaml"
    if not (folder / "dataset").exists():
        tickets = plant_bias(generate_tickets(TRAIN + VALIDATION + TEST, seed=3), RATE, seed=3)
        parts = ["train"] * TRAIN + ["validation"] * VALIDATION + ["test"] * TEST
        write_jsonl([{**row, "split": part} for row, part in zip(tickets, parts, strict=True)], folder / "tickets.jsonl")
        recipe.write_text(RECIPE)
        validate_dataset(resolve_recipe(str(recipe)), folder / "dataset", folder / "dataset.html")
    return Job.load(resolve_recipe(str(recipe)), folder / "dataset"), read_part(folder / "dataset", "test")


def run_cell(job: Job, test: Sequence[Row], system: str, seed: int) -> dict[str, Any]:
    """Train one prompt and test it."""
    method, weight = SYSTEMS[system]
    assert job.recipe.training.fairness is not None
    fairness = job.recipe.training.fairness.model_copy(update={"method": method, "weight": weight})
    job = job_with(job, seed=seed, fairness=fairness)
    began = time.perf_counter()
    state = run_loop(job, 0, Candidate(), LoopState.begin(job, Candidate()), Workers(), lambda _: None)
    seconds = time.perf_counter() - began
    predictor = Predictor(job.base, job.task, SoftPrompt(state.best_values), batch_size=128)
    said = np.array([found.output for found in predictor.predict([row.inputs for row in test])])
    return {"system": system, "seed": seed, "seconds": seconds, "best_step": state.best_step} | measured(said, test)


def measured(said: Strings, test: Sequence[Row]) -> dict[str, float]:
    """Accuracies and gaps of some answers."""
    right = np.array([row.subgroups["true_queue"] for row in test])
    region, labelled = np.array([row.subgroups["region"] for row in test]), np.array([row.target for row in test])
    options = {"sensitive_features": region}
    parity = [demographic_parity_difference(right == label, said == label, **options) for label in np.unique(right)]
    opportunity = [equal_opportunity_difference(right == label, said == label, **options) for label in np.unique(right)]
    return {
        "accuracy, true labels": float(np.mean(said == right)),
        "accuracy, labels as they are": float(np.mean(said == labelled)),
        "demographic parity gap": float(max(parity)),
        "equal opportunity gap, true labels": float(max(opportunity)),
    }


def table(results: Sequence[dict[str, Any]]) -> Iterator[BenchRow]:
    """Each seed's figures with an objective beside those without, in points."""
    found = {(one["system"], one["seed"]): one for one in results}
    for (system, seed), one in sorted(found.items()):
        plain = found.get(("without", seed))
        if system == "without" or plain is None:
            continue
        for name in (key for key in one if "gap" in key or "accuracy" in key):
            yield BenchRow.compare(f"{system}, seed {seed}, {name}", 100 * one[name], "points", 100 * plain[name])


def main() -> None:
    """Run the benchmark."""
    parser = bench_arguments(__doc__.splitlines()[0])
    parser.add_argument("--kept", type=Path, default=Path("build/fairness"), help="folder of the dataset and of results")
    options = parser.parse_args()
    options.kept.mkdir(parents=True, exist_ok=True)
    file = options.kept / "results.jsonl"
    results = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(one["system"], one["seed"]) for one in results}
    seeds, systems = (range(1), ("without", "gap")) if options.quick else (range(3), tuple(SYSTEMS))
    cells = [(system, seed) for seed in seeds for system in systems]
    job, test = load_job(options.kept)
    for system, seed in cells:
        if (system, seed) not in done:
            results.append(run_cell(job, test, system, seed))
            with file.open("a") as log:
                log.write(json.dumps(results[-1]) + "\n")
            print(json.dumps(results[-1]), flush=True)
    wanted = [one for one in results if (one["system"], one["seed"]) in cells]
    show("tickets with a planted bias, test rows", list(table(wanted)), options.json)


if __name__ == "__main__":
    main()
