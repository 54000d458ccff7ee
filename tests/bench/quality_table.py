"""The tables of docs/benchmarks.md out of what `tests.bench.quality` has finished, as Markdown.

python -m tests.bench.quality_table [RESULTS]
"""

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.quality import METHODS, RESULTS, cells

Results = dict[tuple[object, ...], dict[str, Any]]
"""(task, steps, loss, method, seed) -> what was found."""


def tables(results: Results) -> Iterator[str]:
    """One for each task, number of steps and loss; what was not trained is missing."""
    wanted: dict[tuple[object, ...], dict[str, list[int]]] = defaultdict(lambda: {method: [] for method in METHODS})
    for cell in cells(quick=False):
        wanted[cell.task, cell.steps, cell.loss][cell.method].append(cell.seed)
    for (task, steps, loss), methods in wanted.items():
        seeds = max(methods.values(), key=len)
        yield f"\n{task}, {steps} steps, {loss}\n"
        yield _line(["method", *(f"seed {seed}" for seed in seeds), "mean", "standard deviation", "seconds"])
        yield _line(["---", *["---:"] * (len(seeds) + 3)])
        for method in (name for name, planned in methods.items() if planned):
            yield _line([method, *_numbers([results.get((task, steps, loss, method, seed)) for seed in seeds])])
    yield from curves({key: found for key, found in results.items() if key[1] == 3000})


def _numbers(found: Sequence[dict[str, Any] | None]) -> Iterator[str]:
    yield from (f"{one['accuracy']:.3f}" if one else "missing" for one in found)
    known = [one for one in found if one]
    accuracies = [one["accuracy"] for one in known]
    yield f"{statistics.mean(accuracies):.3f}" if known else ""
    yield f"{statistics.stdev(accuracies):.3f}" if len(known) > 1 else ""
    yield f"{statistics.mean(one['seconds'] for one in known):.0f}" if known else ""


def curves(results: Results) -> Iterator[str]:
    """Accuracy against processor seconds of the longest trainings."""
    for (task, steps, loss, method, seed), found in results.items():
        yield f"\n{task}, {steps} steps, {method}, {loss}, seed {seed}: (steps, seconds, accuracy)\n"
        yield ", ".join(f"({step}, {seconds:.0f}, {accuracy:.3f})" for step, seconds, accuracy in found["points"])


def _line(parts: Sequence[str]) -> str:
    return f"| {' | '.join(parts)} |"


def main() -> None:
    """Print them."""
    lines = Path(sys.argv[1] if sys.argv[1:] else RESULTS).read_text().splitlines()
    found = [json.loads(line) for line in lines]
    keys = ("task", "steps", "loss", "method", "seed")
    print("\n".join(tables({tuple(one[key] for key in keys): one for one in found})))


if __name__ == "__main__":
    main()
