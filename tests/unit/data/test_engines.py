"""Both engines find the same: Ray Data's workers run the same code, and rows come back in order."""

import json

import numpy as np
import pytest

from softprompt.data.measure import EMPTY
from softprompt.data.validate import examine
from softprompt.resolve import resolve_recipe
from tests.builders import colour_rows, write_recipe


@pytest.fixture
def rows_folder(tmp_path):
    """A dataset of three files with faults of several kinds in them."""
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = colour_rows()
    rows[3]["text"] = "write to ann@example.com"
    rows[60]["text"] = rows[61]["text"]
    lines = [json.dumps(row) for row in rows]
    lines[70] = '{"text": "a", "text": "b", "colour": "red"}'
    lines[120] = json.dumps({"text": "", "colour": "red"})
    for number, some in enumerate((lines[:50], lines[50:90], lines[90:])):
        (folder / f"{number}.jsonl").write_text("\n".join(some) + "\n")
    return folder


@pytest.fixture
def ray_with_workers():
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, logging_level=40)
    yield
    ray.shutdown()


@pytest.mark.slow
def test_ray_finds_what_the_local_engine_finds(tmp_path, llama_directory, rows_folder, ray_with_workers):
    found = {}
    for engine in ("local", "ray"):
        recipe = write_recipe(tmp_path / f"{engine}.yaml", llama_directory, rows_folder)
        wishes = f"  engine: {engine}\n  on_finding: {{unreadable: drop}}\n  target_column"
        recipe.write_text(recipe.read_text().replace("  target_column", wishes, 1))
        (tmp_path / engine).mkdir()
        found[engine] = examine(resolve_recipe(str(recipe)), tmp_path / engine).data
    here, there = found["local"], found["ray"]
    assert len(here.table) == 148
    assert here.findings == there.findings
    assert {finding.check for finding in here.findings} >= {"unreadable", "personal_data", "duplicates"}
    assert here.take(range(148)) == there.take(range(148))
    for name in EMPTY:
        assert np.array_equal(getattr(here.measures, name), getattr(there.measures, name)), name
