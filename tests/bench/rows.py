"""What every benchmark prints and writes: one row a measurement, beside what it is compared with."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class BenchRow:
    """One measurement.

    Attributes:
        name: What was measured.
        value: Ours, in `unit`.
        unit: Such as rows/s or MiB.
        baseline: The same of the alternative, measured in the same run.
        ratio: value / baseline.
    """

    name: str
    value: float
    unit: str
    baseline: float
    ratio: float

    @classmethod
    def compare(cls, name: str, value: float, unit: str, baseline: float) -> "BenchRow":
        """A row with its ratio."""
        return cls(name, value, unit, baseline, value / baseline)


def bench_arguments(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer shapes and repetitions, about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file too")
    return parser


def show(title: str, rows: Sequence[BenchRow], file: Path | None) -> None:
    """Print a table, and write the same rows as JSON."""
    table = Table("name", "value", "unit", "baseline", "ratio", title=title, title_justify="left")
    for row in rows:
        table.add_row(row.name, f"{row.value:,.2f}", row.unit, f"{row.baseline:,.2f}", f"{row.ratio:.2f}")
    Console().print(table)
    if file:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
