"""The dataset artifact: one Parquet file a part and a manifest. Immutable; the same rows give the same bytes."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from softprompt.artifact import Sha256, read_capped
from softprompt.data.rows import PARTS, Finding, Part, Row, Severity
from softprompt.data.statistics.profile import DatasetProfile
from softprompt.data.table import SUBGROUP, RowTable, row_of
from softprompt.documents import Document, canonical_json, sha256_hex
from softprompt.errors import VerificationFailed
from softprompt.fetch import fetch_bytes
from softprompt.fetch.cache import fresh_folder
from softprompt.resolve import ResolvedFile

MANIFEST_FILE = "manifest.json"
ROWS_A_GROUP = 16_384
"""Rows that Parquet compresses together, and ROWS_AT_ONCE those that a reader holds: a part may be larger than memory."""
ROWS_AT_ONCE = 256
BASELINE = "baseline"
"""Column of the classical baseline's answer, in the parts that it did not learn from."""


class FindingRecord(Document):
    """A finding as it is kept with the dataset."""

    check: str
    severity: Severity
    message: str
    num_rows: int
    places: tuple[str, ...]
    """The first hundred of them."""
    details: tuple[str, ...] = ()
    """What is there, parallel to `places`; personal data masked."""

    @classmethod
    def of(cls, found: Finding) -> "FindingRecord":
        """The record of a finding."""
        return cls(**asdict(found))


class BaselineRecord(Document):
    """The classical baseline: TF-IDF and logistic regression, fitted on the training rows."""

    train_rows: int
    """Rows that it was fitted on; fewer than there are where it was fitted on a sample."""
    validation_accuracy: float
    test_accuracy: float


class DatasetManifest(Document):
    """What a dataset artifact holds."""

    schema_version: Literal[1] = 1
    content_digest: Sha256
    """sha256 over the rows' content and parts, in an order of their own: independent of file, format and row order."""
    num_rows: dict[Part, int]
    labels: tuple[str, ...]
    """Sorted; empty for a generation."""
    num_rows_by_label: dict[str, int]
    num_dropped: dict[str, int]
    """Check -> rows that it left out."""
    findings: tuple[FindingRecord, ...]
    baseline: BaselineRecord | None = None
    """None for a generation."""
    profile: DatasetProfile | None = None
    """What later datasets are compared with."""


def write_dataset(
    directory: Path,
    table: RowTable,
    part: NDArray[np.int8],
    kept: NDArray[np.bool_],
    baseline: Sequence[str],
    manifest: DatasetManifest,
) -> None:
    """Write the artifact, complete or not at all.

    Args:
        directory: Must not exist, or be empty.
        table: All rows.
        part: `[R]` each row's part, as a place in `PARTS`.
        kept: `[R]` which rows belong to the dataset.
        baseline: `[R]` the classical baseline's answers, empty for rows that it was not asked; or nothing at all.
        manifest: What the artifact holds.
    """
    with fresh_folder(directory.with_name(f".{directory.name}.part")) as draft:
        for code, name in enumerate(PARTS):
            answers = baseline if name != "train" else ()
            _write_part(part_file(draft, name), table, kept & (part == code), name, answers)
        (draft / MANIFEST_FILE).write_bytes(manifest.to_bytes())
        draft.rename(directory)


def read_manifest(directory: Path) -> DatasetManifest:
    """The manifest of a dataset artifact. VerificationFailed: it is not one."""
    data = read_capped(directory / MANIFEST_FILE, DatasetManifest.max_bytes)
    return DatasetManifest.from_bytes(data, source=str(directory / MANIFEST_FILE))


def fetch_profile(reference: ResolvedFile) -> DatasetProfile | None:
    """The profile of an earlier dataset; None where it has none.

    Args:
        reference: A dataset's manifest, or a profile by itself, and its digest.

    Raises:
        VerificationFailed: It is not what was resolved, or was written by a version that this one does not read.
        StoreUnavailable: The object store does not give it.
    """
    uri = reference.uri
    data = fetch_bytes(uri, max_bytes=DatasetManifest.max_bytes)
    if sha256_hex(data) != reference.sha256:
        raise VerificationFailed(
            "The earlier dataset changed since the run began.", where=uri, expected=reference.sha256, actual=sha256_hex(data)
        )
    if uri.endswith(MANIFEST_FILE):
        return DatasetManifest.from_bytes(data, source=uri).profile
    return DatasetProfile.from_bytes(data, source=uri)


def part_file(directory: Path, part: Part) -> Path:
    """The file of one part."""
    return directory / f"{part}.parquet"


def read_part(directory: Path, part: Part) -> list[Row]:
    """The rows of one part. VerificationFailed: the file cannot be read."""
    return list(iter_part(directory, part))


def iter_part(directory: Path, part: Part) -> Iterator[Row]:
    """The rows of one part, a few of them in memory at a time. VerificationFailed: the file cannot be read."""
    for record in _records(part_file(directory, part)):
        record.pop(BASELINE, None)
        yield row_of(record)


def read_baseline(directory: Path, part: Part) -> list[str]:
    """The classical baseline's answers to the rows of a part, in their order; empty where there is none.

    Raises:
        VerificationFailed: The file cannot be read.
    """
    return [str(record[BASELINE]) for record in _records(part_file(directory, part)) if BASELINE in record]


def read_subgroups(directory: Path, part: Part, column: str) -> list[str]:
    """The value of a subgroup column for each row of a part. VerificationFailed: there is no such column, or no such file."""
    path = part_file(directory, part)
    try:
        return [str(value) for value in parquet.read_table(path, columns=[SUBGROUP + column])[SUBGROUP + column].to_pylist()]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise VerificationFailed(
            f"The subgroup column {column!r} of a dataset cannot be read.", where=str(path), actual=str(error)
        ) from None


def digest_of_content(rows: Iterable[Row]) -> str:
    """sha256 over what the rows say and the part each is in; ids, files and lines are left out."""
    digests = sorted(
        hashlib.sha256(canonical_json([row.part, row.inputs, row.target, row.subgroups, row.must_pass])).digest() for row in rows
    )
    total = hashlib.sha256()
    for digest in digests:
        total.update(digest)
    return total.hexdigest()


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, use_threads=False):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise VerificationFailed("A part of a dataset cannot be read.", where=str(path), actual=str(error)) from None


def _write_part(path: Path, table: RowTable, chosen: NDArray[np.bool_], name: Part, baseline: Sequence[str]) -> None:
    schema = table.schema.append(pa.field(BASELINE, pa.string())) if len(baseline) else table.schema
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        start = 0
        for batch in table.batches():
            rows = np.nonzero(chosen[start : start + batch.num_rows])[0]
            piece = batch.take(pa.array(rows))
            at = piece.schema.get_field_index("part")
            piece = piece.set_column(at, piece.schema.field(at), pa.array([name] * len(rows), pa.string()))
            if len(baseline):
                piece = piece.append_column(
                    schema.field(BASELINE), pa.array([baseline[start + row] for row in rows.tolist()], pa.string())
                )
            if len(rows):
                writer.write_batch(piece, row_group_size=ROWS_A_GROUP)
            start += batch.num_rows
