"""`validate_dataset` through KFP's local runner: an immutable artifact, and a page about it."""

import pyarrow.parquet as parquet

from softprompt.data.dataset import digest_of_content, read_manifest, read_part
from softprompt.data.report import DatasetReport
from softprompt.data.rows import PARTS
from tests.builders import COLOURS, colour_rows


def test_the_artifact_is_a_parquet_file_a_part_and_a_manifest(passed_run):
    folder = passed_run.output("validate_dataset", "dataset")
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        "test.parquet",
        "train.parquet",
        "validation.parquet",
    ]
    counts = {part: parquet.read_table(folder / f"{part}.parquet").num_rows for part in PARTS}
    assert counts == read_manifest(folder).num_rows
    assert sum(counts.values()) == len(colour_rows())


def test_no_row_is_in_two_parts(passed_run):
    folder = passed_run.output("validate_dataset", "dataset")
    texts = [row.inputs["text"] for part in PARTS for row in read_part(folder, part)]
    assert sorted(texts) == sorted(row["text"] for row in colour_rows())


def test_the_manifest_tells_labels_and_the_digest_of_what_the_rows_say(passed_run):
    folder = passed_run.output("validate_dataset", "dataset")
    manifest = read_manifest(folder)
    assert manifest.labels == tuple(sorted(COLOURS))
    assert manifest.content_digest == digest_of_content([row for part in PARTS for row in read_part(folder, part)])


def test_kfp_shows_the_digest_and_the_counts(passed_run):
    shown = passed_run.artifact("validate_dataset", "dataset")
    manifest = read_manifest(passed_run.output("validate_dataset", "dataset"))
    assert shown == {"content_digest": manifest.content_digest, "num_rows": dict(manifest.num_rows)}


def test_the_same_file_gives_the_same_bytes(passed_run, rejected_run):
    for name in ("manifest.json", "train.parquet", "validation.parquet", "test.parquet"):
        mine, theirs = (run.output("validate_dataset", "dataset") / name for run in (passed_run, rejected_run))
        assert mine.read_bytes() == theirs.read_bytes()


def test_the_page_is_self_contained(passed_run):
    page = passed_run.output("validate_dataset", "dataset_report").read_text()
    assert page.startswith("<!doctype html>")
    assert "src=" not in page.replace('src="data:', "")
    assert "http" not in page.replace("http://www.w3.org", "")


def test_kfp_metrics_are_the_reports_numbers(passed_run):
    page = passed_run.output("validate_dataset", "dataset_report")
    report = DatasetReport.from_bytes((page.parent / "dataset_report.json").read_bytes(), source="json")
    manifest = read_manifest(passed_run.output("validate_dataset", "dataset"))
    shown = passed_run.artifact("validate_dataset", "dataset_metrics")
    assert {part: shown[f"{part} rows"] for part in PARTS} == manifest.num_rows == report.num_rows
    assert shown["labels"] == 3
    assert shown["baseline test accuracy"] == manifest.baseline.test_accuracy
    assert shown["warnings"] == sum(finding.severity == "warn" for finding in manifest.findings)
