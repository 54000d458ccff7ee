"""The step `validate_dataset`: files in, an immutable dataset out, or a refusal that names the rows to mend."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
from softprompt.data.checks.lengths import measure_lengths
from softprompt.data.checks.repeats import (
    check_conflicts,
    check_duplicates,
    check_leakage,
    check_near_duplicates,
    check_torn_groups,
)
from softprompt.data.checks.texts import CHECKS as TEXT_CHECKS
from softprompt.data.checks.texts import check_texts
from softprompt.data.dataset import DatasetManifest, FindingRecord, digest_of_content, fetch_profile, write_dataset
from softprompt.data.examined import Examined, Found
from softprompt.data.ingest import Faults, Source, ingest_here
from softprompt.data.measure import Measures
from softprompt.data.near import clusters, similar_pairs
from softprompt.data.ray_engine import ingest_on_ray
from softprompt.data.report import dataset_report, report_beside, write_dataset_page
from softprompt.data.rows import PARTS, Finding, normalised
from softprompt.data.split import TRAIN, VALIDATION, joined, split
from softprompt.data.statistics.profile import DatasetProfile
from softprompt.data.table import RowTable
from softprompt.errors import DatasetRefused
from softprompt.fetch import fetch_base, fetch_dataset
from softprompt.fetch.cache import fresh_folder
from softprompt.fetch.web import without_secrets
from softprompt.progress import tell
from softprompt.recipe.dataset import DatasetSpec
from softprompt.resolve import ResolvedRecipe

STEP = "validate_dataset"

Check = Callable[[Examined], Iterator[Found]]


def validate_dataset(resolved: ResolvedRecipe, dataset: Path, page: Path) -> DatasetManifest:
    """Read, check and divide the rows that a resolved recipe names.

    Args:
        resolved: The recipe with its references replaced by digests.
        dataset: Directory to write the dataset artifact to.
        page: File to write the HTML page to, and beside it the same as JSON; both are written before a refusal, too.

    Raises:
        DatasetRefused: The rows would ruin a prompt; the message and the report name them.
        VerificationFailed: The dataset is no longer what it was when the recipe was resolved.
    """
    # Beside the output: rows may be more than a temporary file system holds.
    with fresh_folder(dataset.with_name(f".{dataset.name}.rows")) as folder:
        found = examine(resolved, folder)
        data, learned = found.data, found.learned
        report = dataset_report(resolved, data, learned)
        write_dataset_page(page, report, data, learned)
        report_beside(page).write_bytes(report.to_bytes())
        refuse(data, source=resolved.dataset.uri)
        manifest = manifest_of(data, learned)
        write_dataset(dataset, data.table, data.part, data.kept, learned.baseline_answers, manifest)
    counts = ", ".join(f"{count:,} {part}" for part, count in manifest.num_rows.items())
    tell(STEP, f"{counts} rows; {len(data.findings)} warnings", num_rows=manifest.num_rows, warnings=len(data.findings))
    return manifest


@dataclass(frozen=True)
class Examination:
    """What examining a dataset gives.

    Attributes:
        data: Its rows, and what was found.
        learned: What they taught.
        sources: (files, whether all their rows are test rows) pairs that they came from.
        faults: Records that are no rows.
    """

    data: Examined
    learned: Learned
    sources: Sequence[Source]
    faults: Faults


def examine(resolved: ResolvedRecipe, folder: Path) -> Examination:
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
    earlier = fetch_profile(resolved.reference) if resolved.reference else None
    return Examination(data, run_checks(data, faults, load_text_side(base), earlier), sources, faults)


def divided(resolved: ResolvedRecipe, table: RowTable, measures: Measures, *, mends: bool = False) -> Examined:
    """Rows with their clusters and parts.

    Args:
        resolved: The recipe.
        table: The rows.
        measures: Their numbers.
        mends: Whether checks are to leave out the rows that would refuse the dataset.
    """
    spec = resolved.recipe.dataset
    near = near_clusters(table, measures, spec.limits.similarity)
    groups = table.column("group").combine_chunks().dictionary_encode()
    names = groups.dictionary.to_pylist()
    group = groups.indices.to_numpy() if len(table) else np.zeros(0, np.int64)
    if "" in names:
        group = np.where(group == names.index(""), -1, group)
    cluster = joined(near, group)
    given = np.array([PARTS.index(part) for part in table.column("part").to_pylist()], np.int8)
    free, part = _free(given, spec), given.copy()
    part[free] = split(measures.place[free], measures.input_digest[free], cluster[free], spec.split)
    return Examined(resolved.recipe, table, measures, part, near, cluster, free, mends)


def near_clusters(table: RowTable, measures: Measures, similarity: float) -> NDArray[np.int64]:
    """The same number for rows with equal or almost equal inputs."""
    _, first, inverse = np.unique(measures.input_digest, return_index=True, return_inverse=True)

    def texts_of(places: Sequence[int]) -> list[str]:
        return ["\n".join(map(normalised, row.inputs.values())) for row in table.take(first[np.asarray(places)])]

    pairs = [(one, other) for one, other, _ in similar_pairs(measures.signature[first], similarity, texts_of)]
    return first[clusters(len(first), pairs)[inverse]] if len(first) else inverse


def run_checks(data: Examined, faults: Faults, text_side: TextSide, earlier: DatasetProfile | None = None) -> Learned:
    """All checks in order; each sees the rows that those before it left.

    Args:
        data: The rows.
        faults: Records that are no rows.
        text_side: The base's tokenizer.
        earlier: Of the dataset that drift is measured against.
    """
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
        learned.lengths, too_long = measure_lengths(data, text_side)
        for found in too_long:
            data.record(found)
    if not data.refused:
        for found in learn(data, learned, earlier):
            data.record(found)
    return learned


def manifest_of(data: Examined, learned: Learned) -> DatasetManifest:
    """What the artifact will say about itself."""
    rows = data.rows_of()
    is_classification = data.recipe.task.type == "classification"
    by_label = dict(zip(data.label_names, data.counts_by_label().tolist(), strict=True)) if is_classification else {}
    labels = tuple(label for label, count in by_label.items() if count)
    return DatasetManifest(
        content_digest=digest_of_content(row for some in np.array_split(rows, len(rows) // 8192 + 1) for row in data.take(some)),
        num_rows=data.num_rows_by_part,
        labels=labels,
        num_rows_by_label={label: by_label[label] for label in labels},
        num_dropped=data.num_dropped,
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
            "\n".join(["The dataset was refused.", *lines]),
            where=without_secrets(source),
            actual=f"{data.num_rows:,} usable rows",
            hint=hint,
        )


def _record_faults(data: Examined, faults: Faults) -> None:
    severity = data.severity_of("unreadable")
    if not faults.count or severity == "ignore":
        return
    one = faults.count == 1
    message = (
        "One row cannot be used; mend or remove it." if one else f"{faults.count:,} rows cannot be used; mend or remove them."
    )
    places, details = zip(*faults.first, strict=True)
    data.findings.append(Finding("unreadable", severity, message, faults.count, places, details))


def _free(given: NDArray[np.int8], spec: DatasetSpec) -> NDArray[np.bool_]:
    """Rows whose part is the dice's to say: none where the data name all parts, else those that are no given test rows."""
    all_named = bool(spec.split_column) and bool((given == VALIDATION).any())
    return np.zeros(len(given), bool) if all_named else given == TRAIN


def _sentences(found: Finding, most: int = 5) -> list[str]:
    details = found.details or ("",) * len(found.places)
    shown = [f"      {place}  {detail}".rstrip() for place, detail in zip(found.places, details, strict=True)][:most]
    rest = [f"      ... and {found.num_rows - len(shown):,} more"] if found.num_rows > len(shown) else []
    return [f"  {found.check}: {found.message}", *shown, *rest]
