"""Validating a dataset: time and memory by size, and beside pandera and Great Expectations on the same file.

    python -m tests.bench.validate [--quick] [--json FILE]

Rows of about 120 characters with 20 labels, as JSON lines. `all checks` is the step as it runs in the pipeline, artifact and
report included; `the same checks` reads, and checks schema, empty cells, lengths and duplicates, which is what the other two are
asked to do. Each system runs in a fresh process; the peak is of its resident memory, imports included.
"""

import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from softprompt.data.checks.repeats import check_duplicates
from softprompt.data.ingest import ingest_here
from softprompt.data.validate import divided, validate_dataset
from softprompt.fetch import fetch_dataset
from softprompt.resolve import ResolvedRecipe, resolve_recipe
from tests.bench.rows import BenchRow, bench_arguments, show

SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000, 3_000_000), (10_000, 30_000)
LABELS = [f"queue {number}" for number in range(20)]
RECIPE = """
schema_version: 1
name: bench
channel: laptop
base_model: {{uri: "embedded://base"}}
dataset: {{uri: "{uri}", target_column: label, id_column: id}}
task: {{type: classification, template: "{{text}}\\nQueue:"}}
prompt: {{kind: deep}}
gates:
  - {{metric: accuracy, at_least: 0.5}}
"""


def write_rows(path: Path, num_rows: int) -> None:
    """Words of the embedded tickets in random order, a third from their label's own forty; one row in twenty has a number."""
    draw = random.Random(0)
    tickets = Path(__file__).parents[2] / "softprompt" / "embedded" / "data" / "tickets.jsonl"
    words = [word for line in tickets.open() for word in json.loads(line)["text"].split() if word.isalpha()]
    own = {label: draw.sample(sorted(set(words)), 40) for label in LABELS}
    with path.open("w") as file:
        for number in range(num_rows):
            label = LABELS[draw.randrange(len(LABELS))]
            text = f"Order {draw.randrange(10**6)}" if draw.random() < 0.05 else "Hello"
            while len(text) < 115:
                text += " " + draw.choice(own[label] if draw.random() < 0.33 else words)
            file.write(json.dumps({"id": f"r{number}", "text": text, "label": label}) + "\n")


def resolved_recipe(rows: Path) -> ResolvedRecipe:
    """The benchmark's recipe over a file."""
    recipe = rows.with_suffix(".yaml")
    recipe.write_text(RECIPE.format(uri=rows))
    return resolve_recipe(str(recipe))


def all_checks(rows: Path) -> None:
    """The whole step."""
    validate_dataset(resolved_recipe(rows), rows.with_suffix(".dataset"), rows.with_suffix(".html"))


def the_same_checks(rows: Path) -> None:
    """Read, and check schema, empty cells, lengths and duplicates."""
    resolved = resolved_recipe(rows)
    source = (fetch_dataset(resolved.dataset.uri), False)
    table, _, measures = ingest_here([source], resolved.recipe, rows.with_suffix(".arrow"), lambda count: None)
    data = divided(resolved, table, measures)
    assert int(data.measures.characters.max()) <= 2000
    assert not list(check_duplicates(data))


def pandera(rows: Path) -> None:
    """Schema, nulls, lengths, labels and duplicates with pandera."""
    import pandas
    from pandera.pandas import Check, Column, DataFrameSchema

    text = Column(str, Check.str_length(1, 2000), nullable=False)
    label = Column(str, Check.isin(LABELS), nullable=False)
    schema = DataFrameSchema(
        {"id": Column(str, unique=True), "text": text, "label": label}, unique=["text", "label"], strict=True
    )
    schema.validate(pandas.read_json(rows, lines=True, dtype=str), lazy=True)


def great_expectations(rows: Path) -> None:
    """The same with Great Expectations."""
    import great_expectations as gx
    import pandas

    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("bench").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(
        {"dataframe": pandas.read_json(rows, lines=True, dtype=str)}
    )
    suite = gx.ExpectationSuite(name="rows")
    suite.add_expectation(gx.expectations.ExpectTableColumnsToMatchSet(column_set=["id", "text", "label"]))
    for column in ("id", "text", "label"):
        suite.add_expectation(gx.expectations.ExpectColumnValuesToNotBeNull(column=column))
    suite.add_expectation(gx.expectations.ExpectColumnValuesToBeUnique(column="id"))
    suite.add_expectation(gx.expectations.ExpectCompoundColumnsToBeUnique(column_list=["text", "label"]))
    suite.add_expectation(gx.expectations.ExpectColumnValueLengthsToBeBetween(column="text", min_value=1, max_value=2000))
    suite.add_expectation(gx.expectations.ExpectColumnValuesToBeInSet(column="label", value_set=LABELS))
    assert batch.validate(suite).success


SYSTEMS: dict[str, Callable[[Path], None]] = {
    system.__name__: system for system in (all_checks, the_same_checks, pandera, great_expectations)
}


def measure(system: str, num_rows: int) -> tuple[float, float]:
    """(seconds, peak MiB) of a fresh process; imports that a system makes when it runs are part of its time."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.validate", "--system", system, "--rows", str(num_rows)],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return float(seconds), float(peak)


def run_system(system: str, num_rows: int) -> None:
    """What a fresh process does."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        write_rows(rows, num_rows)
        began = time.perf_counter()
        SYSTEMS[system](rows)
        seconds = time.perf_counter() - began
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def main() -> None:
    """Measure, print, write."""
    parser = bench_arguments(__doc__ or "")
    parser.add_argument("--system", choices=SYSTEMS, help="run one system in this process")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--sizes", type=int, nargs="*", help="instead of the usual ones")
    options = parser.parse_args()
    if options.system:
        run_system(options.system, options.rows)
        return
    compared, repeats = (10_000, 1) if options.quick else (100_000, 3)
    others = [name for name in ("pandera", "great_expectations") if find_spec(name)]
    if len(others) < len(SYSTEMS) - 2:
        print("Without pandera and Great Expectations nothing is compared: pip install 'softprompt[bench]'.")
    found: dict[str, list[tuple[float, float]]] = {system: [] for system in ("all_checks", "the_same_checks", *others)}
    for _ in range(repeats):
        for system, tries in found.items():
            tries.append(measure(system, compared))
    middle = {system: [statistics.median(numbers) for numbers in zip(*tries, strict=True)] for system, tries in found.items()}
    table = [
        BenchRow.compare(f"{ours} beside {theirs}, {compared:,} rows", middle[ours][0], "s", middle[theirs][0])
        for ours in ("all_checks", "the_same_checks")
        for theirs in others
    ]
    smallest: float | None = None
    for size in options.sizes or (QUICK_SIZES if options.quick else SIZES):
        seconds, peak = measure("all_checks", size)
        smallest = smallest or seconds / size
        table.append(
            BenchRow.compare(f"all checks, {size:,} rows: microseconds a row", 1e6 * seconds / size, "us", 1e6 * smallest)
        )
        table.append(BenchRow.compare(f"all checks, {size:,} rows: wanted 120 s a million", seconds, "s", 120 * size / 1e6))
        table.append(BenchRow.compare(f"all checks, {size:,} rows: wanted 2 GiB", peak, "MiB", 2048))
    show("Validating a dataset", table, options.json)


if __name__ == "__main__":
    main()
