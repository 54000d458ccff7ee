"""A dataset artifact of any size, written a piece at a time, and the program that measures what reading it takes."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from softprompt.data.dataset import ROWS_A_GROUP, DatasetManifest, part_file

CHARACTERS_A_ROW = 2000
WORDS = [
    f"{start}{end}" for start in ("par", "can", "inv", "mon", "mess", "twi", "ord") for end in ("cel", "oice", "day", "age", "ce")
]
LABELS = ("blue", "green", "red")

MEASURE = """
import gc, os, resource, sys
from itertools import islice
from pathlib import Path

from softprompt.base_model import load_text_side
from softprompt.data.tokens import tokenised_rows
from softprompt.engine.batches import epochs
from softprompt.engine.encoding import answers_for
from softprompt.engine.task import EncodedTask

def status(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))

base, dataset, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) * 2**20
task = EncodedTask.create(load_text_side(base), "Thing: {text}\\nColour:", answers_for(("blue", "green", "red"), {}))
task.examples([({"text": "warm up " * 50}, "red")] * 256)  # the tokenizer's own caches and threads
gc.collect()
open("/proc/self/clear_refs", "w").write("5")  # VmHWM, the peak, starts anew
before = status("VmRSS")
# The system refuses private memory beyond this (MemoryError, or an abort); files that are mapped do not count.
resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + limit,) * 2)
rows = tokenised_rows(dataset, task, fingerprint="0" * 64)
tokenised = status("VmHWM") - before
order = epochs(rows.lengths, 32, 0)
count = sum(1 for batch in islice(order, -(-len(rows) // 32)) if [rows[row] for row in batch])
print("rows", len(rows))
print("batches", count)
print("text_bytes", int((dataset / "text_bytes").read_text()))
print("token_bytes", sum(rows.lengths) * 4)
print("peak_growth_while_tokenising_bytes", tokenised)
print("peak_growth_bytes", status("VmHWM") - before)
print("anonymous_bytes", status("RssAnon"))
print("file_bytes", status("RssFile"))
"""


def write_big_dataset(directory: Path, megabytes: int) -> Path:
    """Training rows of about 2 kB of text, `megabytes` of them in all; the other parts have none."""
    directory.mkdir(parents=True)
    written, rows, draw = 0, 0, random.Random(0)
    schema = pa.schema({"id": pa.string(), "line": pa.int64(), "target": pa.string(), "input:text": pa.string()})
    with parquet.ParquetWriter(part_file(directory, "train"), schema, compression="zstd") as file:
        while written <= megabytes * 10**6:
            texts = [_text(draw) for _ in range(ROWS_A_GROUP // 4)]
            lines = range(rows, rows + len(texts))
            columns = [[str(line) for line in lines], list(lines), [LABELS[line % 3] for line in lines], texts]
            file.write_table(pa.table(columns, schema=schema))
            written, rows = written + sum(map(len, texts)), rows + len(texts)
    (directory / "text_bytes").write_text(str(written))
    empty = DatasetManifest(
        content_digest="0" * 64,
        num_rows={"train": rows, "validation": 0, "test": 0},
        labels=LABELS,
        num_rows_by_label={},
        findings=(),
    )
    (directory / "manifest.json").write_bytes(empty.to_bytes())
    return directory


def _text(draw: random.Random) -> str:
    words = draw.choices(WORDS, k=CHARACTERS_A_ROW // 6)
    return " ".join(words)[:CHARACTERS_A_ROW]
