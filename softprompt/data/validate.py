"""The step `validate_dataset`: files in, an immutable dataset out, or a refusal that names the rows to mend."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softprompt.base_model import TextSide, load_text_side
from softprompt.data.checks.labels import (
    check_balance,
    check_counts,
    check_label_names,
    check_labels,
    check_missing_labels,
    check_unknown_labels,
)
from softprompt.data.checks.learned import Learned, learn
from softprompt.data.checks.lengths import check_lengths, num_tokens, room_for_text
from softprompt.data.checks.repeats import (
    check_conflicts,
    check_duplicates,
    check_leakage,
    check_near_duplicates,
    check_torn_groups,
)
from softprompt.data.checks.texts import CHECKS as TEXT_CHECKS
from softprompt.data.checks.texts import check_texts
from softprompt.data.dataset import DatasetManifest, FindingRecord, digest_of_content, write_dataset
from softprompt.data.examined import NO_ROWS, Examined, Found, Rows
from softprompt.data.ingest import Faults, ingest_here
from softprompt.data.measure import Measures
from softprompt.data.near import clusters, similar_pairs
from softprompt.data.ray_engine import ingest_on_ray
from softprompt.data.report import write_dataset_report
from softprompt.data.rows import MOST_PLACES, PARTS, Finding, normalised
from softprompt.data.split import TRAIN, VALIDATION, joined, moved, split
from softprompt.data.table import RowTable
from softprompt.errors import DatasetRefused
from softprompt.fetch import fetch_base, fetch_dataset
from softprompt.progress import tell
from softprompt.recipe import DatasetSpec
from softprompt.resolve import ResolvedRecipe

STEP = "validate_dataset"

Check = Callable[[Examined], Iterator[Found]]


def validate_dataset(resolved: ResolvedRecipe, dataset: Path, report: Path) -> DatasetManifest:
    """Read, check and divide the rows that a resolved recipe names.

    Args:
        resolved: The recipe with its references replaced by digests.
        dataset: Directory to write the dataset artifact to.
        report: File to write the HTML page to; it is written before a refusal, too.

    Raises:
        DatasetRefused: The rows would ruin a prompt; the message and the report name them.
        VerificationFailed: The dataset is no longer what it was when the recipe was resolved.
    """
    with _scratch(dataset) as folder:
        data, learned = examine(resolved, folder)
        write_dataset_report(report, resolved, data, learned)
        refuse(data, source=resolved.dataset.uri)
        manifest = manifest_of(data, learned)
        write_dataset(dataset, data.table, data.part, data.kept, learned.baseline_answers, manifest)
    counts = ", ".join(f"{count:,} {part}" for part, count in manifest.num_rows.items())
    tell(STEP, f"{counts} rows; {len(data.findings)} warnings", num_rows=manifest.num_rows, warnings=len(data.findings))
    return manifest


def examine(resolved: ResolvedRecipe, folder: Path) -> tuple[Examined, Learned]:
    """Read and check; nothing is refused here, only found.

    Args:
        resolved: The recipe.
        folder: For the table of rows, which is mapped from there.
    """
    recipe = resolved.recipe
    base = fetch_base(recipe.base_model.uri)
    sources = [(fetch_dataset(resolved.dataset.uri, expected_sha256=resolved.dataset.sha256), False)]
    if resolved.test_dataset:
        sources.append((fetch_dataset(resolved.test_dataset.uri, expected_sha256=resolved.test_dataset.sha256), True))
    engine = ingest_on_ray if recipe.dataset.engine == "ray" else ingest_here
    table, faults, measures = engine(sources, recipe, folder / "rows.arrow", lambda count: tell(STEP, f"{count:,} rows read"))
    data = divided(resolved, table, measures)
    return data, run_checks(data, faults, load_text_side(base))


def divided(resolved: ResolvedRecipe, table: RowTable, measures: Measures) -> Examined:
    """Rows with their clusters and parts."""
    spec = resolved.recipe.dataset
    near = near_clusters(table, measures, spec.limits.similarity)
    groups = table.column("group").combine_chunks().dictionary_encode()
    names = groups.dictionary.to_pylist()
    group = groups.indices.to_numpy() if len(table) else np.zeros(0, np.int64)
    if "" in names:
        group = np.where(group == names.index(""), -1, group)
    cluster = joined(near, group)
    given = np.array([PARTS.index(part) for part in table.column("part").to_pylist()], np.int8)
    free, part = _diced(given, spec), given.copy()
    part[free] = split(measures.place[free], measures.input_digest[free], cluster[free], spec.split)
    taken = free[moved(measures.place[free], part[free], spec.split)]
    fresh = np.full(len(table), -1, np.int16)
    return Examined(resolved.recipe, table, measures, part, near, cluster, np.ones(len(table), bool), taken, dropped_by=fresh)


def near_clusters(table: RowTable, measures: Measures, similarity: float) -> NDArray[np.int64]:
    """The same number for rows with equal or almost equal inputs."""
    _, first, inverse = np.unique(measures.input_digest, return_index=True, return_inverse=True)

    def texts_of(places: Sequence[int]) -> list[str]:
        return ["\n".join(map(normalised, row.inputs.values())) for row in table.take(first[np.asarray(places)])]

    pairs = [(one, other) for one, other, _ in similar_pairs(measures.signature[first], similarity, texts_of)]
    return first[clusters(len(first), pairs)[inverse]] if len(first) else inverse


def run_checks(data: Examined, faults: Faults, text_side: TextSide) -> Learned:
    """All checks in order; each sees the rows that those before it left."""
    _record_faults(data, faults)
    if not data.num_rows:
        data.findings.append(Finding("counts", "refuse", "There is not one usable row."))
        return Learned()
    is_classification = data.recipe.task.type == "classification"
    checks: list[Check] = [partial(check_texts, check=check) for check in TEXT_CHECKS]
    checks += [check_leakage, check_conflicts, check_duplicates, check_near_duplicates, check_torn_groups]
    if is_classification:
        checks += [check_unknown_labels, check_labels, check_label_names, check_balance, check_missing_labels]
    for check in [*checks, check_counts]:
        for found in check(data):
            data.record(found)
    learned = Learned()
    if not data.refused:
        learned.tokens, learned.context_tokens = num_tokens(data, text_side), text_side.context_tokens
        learned.room = room_for_text(data, text_side)
        for found in check_lengths(data, text_side, learned.tokens):
            data.record(found)
    if not data.refused:
        for found in learn(data, learned):
            data.record(found)
    return learned


def manifest_of(data: Examined, learned: Learned) -> DatasetManifest:
    """What the artifact will say about itself."""
    rows = data.rows_of()
    counts = np.bincount(data.part[rows], minlength=len(PARTS)).tolist()
    is_classification = data.recipe.task.type == "classification"
    by_label = dict(zip(data.label_names, data.counts_by_label().tolist(), strict=True)) if is_classification else {}
    labels = tuple(label for label, count in by_label.items() if count)
    dropped = Counter(data.drops[check] for check in data.dropped_by[data.dropped_by >= 0].tolist())
    return DatasetManifest(
        content_digest=digest_of_content(row for some in np.array_split(rows, len(rows) // 8192 + 1) for row in data.take(some)),
        num_rows=dict(zip(PARTS, counts, strict=True)),
        labels=labels,
        num_rows_by_label={label: by_label[label] for label in labels},
        num_dropped=dict(sorted(dropped.items())),
        num_moved=len(data.moved_rows),
        moved=tuple(f"{row.place}: {row.part}" for row in data.take(data.moved_rows[:MOST_PLACES])),
        findings=tuple(map(FindingRecord.of, data.findings)),
        baseline=learned.baseline,
        profile=learned.profile,
    )


def refuse(data: Examined, *, source: str) -> None:
    """Raise DatasetRefused if a finding says so, naming the first places of each."""
    refusals = [found for found in data.findings if found.severity == "refuse"]
    if refusals:
        lines = [line for found in refusals for line in _sentences(found)]
        hint = "Mend these rows; the dataset report lists them. `softprompt schema` explains the recipe's dataset keys."
        raise DatasetRefused(
            "\n".join(["The dataset was refused.", *lines]), where=source, actual=f"{data.num_rows:,} usable rows", hint=hint
        )


def _record_faults(data: Examined, faults: Faults) -> None:
    if not faults.count:
        return
    severity = data.recipe.dataset.on_finding.unreadable
    one = faults.count == 1
    message = (
        "One row cannot be used; mend or remove it." if one else f"{faults.count:,} rows cannot be used; mend or remove them."
    )
    if severity != "ignore":
        places, details = zip(*faults.first, strict=True)
        data.findings.append(Finding("unreadable", severity, message, faults.count, places, details))


def _diced(given: NDArray[np.int8], spec: DatasetSpec) -> Rows:
    """Rows whose part the dice decide: none where the data say it."""
    return NO_ROWS if spec.split_column and (given == VALIDATION).any() else np.nonzero(given == TRAIN)[0]


def _sentences(found: Finding, most: int = 5) -> list[str]:
    details = found.details or ("",) * len(found.places)
    shown = [f"      {place}  {detail}".rstrip() for place, detail in zip(found.places, details, strict=True)][:most]
    rest = [f"      ... and {found.num_rows - len(shown):,} more"] if found.num_rows > len(shown) else []
    return [f"  {found.check}: {found.message}", *shown, *rest]


@contextmanager
def _scratch(dataset: Path) -> Iterator[Path]:
    """A folder beside the output, gone at the end: rows may be more than a temporary file system holds."""
    import os

    folder = dataset.with_name(f".{dataset.name}.{os.getpid()}.rows")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
