"""Eight candidates with successive halving beside eight full runs, and their memory beside one run's.

    python -m tests.bench.population [--quick] [--json FILE]

The demo's recipe on the embedded base. Each system runs in a fresh process; repetitions are interleaved and medians compared;
memory is the peak growth of the process over its loaded job.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from softprompt.recipe.training import Candidate
from softprompt.resolve import Overrides
from softprompt.tuning.population import PopulationState, run_population
from softprompt.tuning.workers import Workers
from tests.bench.demo_job import demo_job
from tests.bench.peak_memory import begin_peak, peak_mib
from tests.bench.rows import BenchRow, bench_arguments, show
from tests.variations import job_with

EIGHT = tuple(Candidate(seed=seed, learning_rate=rate) for seed in range(2) for rate in (0.03, 0.06, 0.12, 0.24))
SYSTEMS: dict[str, tuple[tuple[Candidate, ...], bool]] = {
    "eight with halving": (EIGHT, True),
    "eight full runs": (EIGHT, False),
    "one run": ((), False),
}


def run_system(system: str, steps: int) -> dict[str, float]:
    """What a fresh process does: load, train, measure."""
    candidates, halving = SYSTEMS[system]
    job, _ = demo_job(Overrides())
    job = job_with(job, candidates=candidates, halving=halving, steps=steps, validate_every_steps=steps // 8)
    before, began = begin_peak("cpu"), time.perf_counter()
    state = run_population(job, PopulationState(), Workers(), lambda *_: None)
    seconds = time.perf_counter() - began
    best = state.winner.loop.best_score[0]
    return {"seconds": seconds, "memory": peak_mib("cpu") - before, "accuracy": best}


def measure(steps: int, repetitions: int) -> dict[str, dict[str, float]]:
    """Medians of each system over interleaved repetitions."""
    found: dict[str, list[dict[str, float]]] = {system: [] for system in SYSTEMS}
    for _ in range(repetitions):
        for system in SYSTEMS:
            call = [sys.executable, "-m", "tests.bench.population", "--system", system, str(steps)]
            done = subprocess.run(call, capture_output=True, text=True, check=True)
            found[system].append(json.loads(done.stdout.splitlines()[-1]))
    return {system: {key: statistics.median(one[key] for one in runs) for key in runs[0]} for system, runs in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = bench_arguments(__doc__.splitlines()[0])
    parser.add_argument("--system", nargs=2, help="used by the benchmark itself")
    options = parser.parse_args(arguments)
    if options.system:
        print(json.dumps(run_system(options.system[0], int(options.system[1]))))
        return
    found = measure(steps=80 if options.quick else 200, repetitions=1 if options.quick else 3)
    ours, full, one = (found[system] for system in SYSTEMS)
    rows = [
        BenchRow.compare("time, eight with halving beside eight full runs", ours["seconds"], "s", full["seconds"]),
        BenchRow.compare("time, eight with halving beside one run", ours["seconds"], "s", one["seconds"]),
        BenchRow.compare("peak memory, eight with halving beside one run", ours["memory"], "MiB", one["memory"]),
        BenchRow.compare("validation accuracy, halving beside all to the end", ours["accuracy"], "accuracy", full["accuracy"]),
    ]
    show("population of eight", rows, options.json)


if __name__ == "__main__":
    main()
