"""The soft prompt on an earlier dataset's test rows, such as last month's: does it still do what it did?"""

import tempfile
from pathlib import Path

from softprompt.data.dataset import part_file, read_part
from softprompt.data.rows import Row
from softprompt.errors import DatasetRefused
from softprompt.fetch import fetch_verified
from softprompt.resolve import MOST_BYTES, ResolvedFile


def earlier_rows(file: ResolvedFile, columns: tuple[str, ...]) -> list[Row]:
    """The test rows of an earlier dataset artifact.

    Args:
        file: Its test part.
        columns: What the template needs.

    Raises:
        VerificationFailed: It is not what was resolved, or cannot be read.
        StoreUnavailable: The object store does not give it.
        DatasetRefused: Its rows lack a column.
    """
    data = fetch_verified(file.uri, file.sha256, max_bytes=MOST_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        part_file(Path(folder), "test").write_bytes(data)
        rows = read_part(Path(folder), "test")
    missing = set(columns) - set(rows[0].inputs if rows else columns)
    if missing or not rows:
        raise DatasetRefused(
            "The earlier dataset's test rows cannot be asked.",
            where=file.uri,
            expected=f"rows with columns {', '.join(columns)}",
            actual=f"no {', '.join(sorted(missing))}" if missing else "no rows",
            hint="Take evaluation.earlier out of the recipe, or name a dataset artifact of the same task.",
        )
    return rows
