"""The step `validate_dataset`: files in, an immutable dataset out, or a refusal that names the rows to mend."""

from pathlib import Path

from softprompt.base_model import load_text_side
from softprompt.data.checks import check_counts, check_labels, check_lengths, check_repeats, without_leaks
from softprompt.data.dataset import DatasetManifest, write_dataset
from softprompt.data.read import read_rows
from softprompt.data.report import write_dataset_report
from softprompt.data.rows import Finding, Row
from softprompt.data.split import split_rows
from softprompt.errors import DatasetRefused
from softprompt.fetch import fetch_base, fetch_dataset
from softprompt.progress import tell
from softprompt.resolve import ResolvedRecipe

STEP = "validate_dataset"


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
    recipe = resolved.recipe
    rows, findings = load_rows(resolved)
    rows, more = check_rows(resolved, rows, findings)
    findings += more
    write_dataset_report(report, resolved, rows, findings)
    refuse(findings, rows, source=resolved.dataset.uri)
    labels = tuple(sorted({row.target for row in rows})) if recipe.task.type == "classification" else ()
    manifest = write_dataset(dataset, rows, labels, findings)
    counts = ", ".join(f"{count} {part}" for part, count in manifest.num_rows.items())
    tell(STEP, f"{counts} rows; {len(findings)} warnings", num_rows=manifest.num_rows, warnings=len(findings))
    return manifest


def load_rows(resolved: ResolvedRecipe) -> tuple[list[Row], list[Finding]]:
    """Read the dataset's files and divide their rows; findings are about rows that cannot be read."""
    spec, columns = resolved.recipe.dataset, resolved.recipe.input_columns
    files = fetch_dataset(resolved.dataset.uri, expected_sha256=resolved.dataset.sha256)
    read, findings = read_rows(files, spec, columns)
    rows = split_rows(read, spec.split)
    if resolved.test_dataset:
        files = fetch_dataset(resolved.test_dataset.uri, expected_sha256=resolved.test_dataset.sha256)
        read, more = read_rows(files, spec, columns)
        rows, findings = rows + [row.in_part("test") for row in read], findings + more
    return rows, findings


def check_rows(resolved: ResolvedRecipe, rows: list[Row], unreadable: list[Finding]) -> tuple[list[Row], list[Finding]]:
    """All checks; rows that would leak into training are left out. Length is measured only where labels make sense."""
    if not rows:
        return rows, [Finding("counts", "refuse", "There is not one usable row.")]
    recipe = resolved.recipe
    rows, findings = without_leaks(rows)
    findings += check_counts(rows) + check_labels(recipe, rows) + check_repeats(rows)
    if not any(found.severity == "refuse" for found in findings + unreadable):
        text_side = load_text_side(fetch_base(recipe.base_model.uri))
        findings += check_lengths(recipe, text_side, rows)
    return rows, findings


def refuse(findings: list[Finding], rows: list[Row], *, source: str) -> None:
    """Raise DatasetRefused if a finding says so, naming the first places of each."""
    refusals = [found for found in findings if found.severity == "refuse"]
    if refusals:
        lines = [line for found in refusals for line in _sentences(found)]
        hint = "Mend these rows; the dataset report lists every one. `softprompt schema` explains the recipe's dataset keys."
        raise DatasetRefused(
            "\n".join(["The dataset was refused.", *lines]), where=source, actual=f"{len(rows)} usable rows", hint=hint
        )


def _sentences(found: Finding, most: int = 5) -> list[str]:
    details = found.details or ("",) * len(found.places)
    shown = [f"      {place}  {detail}".rstrip() for place, detail in zip(found.places, details, strict=True)]
    rest = [f"      ... and {len(shown) - most} more"] if len(shown) > most else []
    return [f"  {found.check}: {found.message}", *shown[:most], *rest]
