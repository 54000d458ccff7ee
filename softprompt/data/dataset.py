"""The dataset artifact: one Parquet file a part and a manifest. Immutable; the same rows give the same bytes."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as parquet

from softprompt.artifact import Sha256, read_capped
from softprompt.data.rows import PARTS, Finding, Part, Row
from softprompt.documents import Document, canonical_json, sha256_hex
from softprompt.errors import VerificationFailed

MANIFEST_FILE = "manifest.json"
ROWS_A_GROUP = 16_384
"""Rows that Parquet compresses together, and ROWS_AT_ONCE those that a reader holds: a part may be larger than memory."""
ROWS_AT_ONCE = 256
INPUT, SUBGROUP = "input:", "subgroup:"


class FindingRecord(Document):
    """A finding as it is kept with the dataset."""

    check: str
    severity: Literal["refuse", "warn"]
    message: str
    num_rows: int
    places: tuple[str, ...]
    """The first hundred of them."""


class DatasetManifest(Document):
    """What a dataset artifact holds."""

    schema_version: Literal[1] = 1
    content_digest: Sha256
    """sha256 over the rows' content and parts, in an order of their own: independent of file, format and row order."""
    num_rows: dict[Part, int]
    labels: tuple[str, ...]
    """Sorted; empty for a generation."""
    num_rows_by_label: dict[str, int]
    findings: tuple[FindingRecord, ...]


def write_dataset(directory: Path, rows: list[Row], labels: tuple[str, ...], findings: list[Finding]) -> DatasetManifest:
    """Write the artifact, complete or not at all.

    Args:
        directory: Must not exist, or be empty.
        rows: Rows with their parts.
        labels: The closed set of answers; empty for a generation.
        findings: What was found and tolerated.
    """
    counts, by_label = Counter(row.part for row in rows), Counter(row.target for row in rows)
    manifest = DatasetManifest(
        content_digest=digest_of_content(rows),
        num_rows={part: counts[part] for part in PARTS},
        labels=labels,
        num_rows_by_label={label: by_label[label] for label in labels},
        findings=tuple(
            FindingRecord(
                check=found.check,
                severity=found.severity,
                message=found.message,
                num_rows=len(found.places),
                places=found.places[:100],
            )
            for found in findings
        ),
    )
    draft = directory.with_name(f".{directory.name}.{os.getpid()}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for part in PARTS:
        table = _table([row for row in rows if row.part == part])
        parquet.write_table(table, part_file(draft, part), compression="zstd", row_group_size=ROWS_A_GROUP)
    (draft / MANIFEST_FILE).write_bytes(manifest.to_bytes())
    draft.rename(directory)
    return manifest


def read_manifest(directory: Path) -> DatasetManifest:
    """The manifest of a dataset artifact. VerificationFailed: it is not one."""
    data = read_capped(directory / MANIFEST_FILE, DatasetManifest.max_bytes)
    return DatasetManifest.from_bytes(data, source=str(directory / MANIFEST_FILE))


def part_file(directory: Path, part: Part) -> Path:
    """The file of one part."""
    return directory / f"{part}.parquet"


def read_part(directory: Path, part: Part) -> list[Row]:
    """The rows of one part. VerificationFailed: the file cannot be read."""
    return list(iter_part(directory, part))


def iter_part(directory: Path, part: Part) -> Iterator[Row]:
    """The rows of one part, a few of them in memory at a time. VerificationFailed: the file cannot be read."""
    path = part_file(directory, part)
    try:
        with parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, use_threads=False):
                yield from (_row(record, part) for record in batch.to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise VerificationFailed("A part of a dataset cannot be read.", where=str(path), actual=str(error)) from None


def digest_of_content(rows: list[Row]) -> str:
    """sha256 over what the rows say and the part each is in; ids and lines are left out."""
    content = sorted(sha256_hex(canonical_json([row.part, row.inputs, row.target, row.subgroups])) for row in rows)
    return sha256_hex(canonical_json(content))


def _table(rows: list[Row]) -> pa.Table:
    columns: dict[str, list[str | int]] = {
        "id": [row.id for row in rows],
        "line": [row.line for row in rows],
        "target": [row.target for row in rows],
    }
    for prefix, cells in ((INPUT, [row.inputs for row in rows]), (SUBGROUP, [row.subgroups for row in rows])):
        for name in sorted(cells[0]) if cells else ():
            columns[prefix + name] = [cell[name] for cell in cells]
    return pa.table(columns)


def _row(record: dict[str, object], part: Part) -> Row:
    def columns(prefix: str) -> dict[str, str]:
        return {name.removeprefix(prefix): str(value) for name, value in record.items() if name.startswith(prefix)}

    line = record["line"]
    assert isinstance(line, int)
    return Row(str(record["id"]), line, columns(INPUT), str(record["target"]), columns(SUBGROUP), part)
