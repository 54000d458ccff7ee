"""A dataset artifact of any size, written a piece at a time, and the program that measures what reading it takes."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from softprompt.base_model import load_text_side
from softprompt.data.dataset import ROWS_A_GROUP, DatasetManifest, part_file
from softprompt.data.tokens import TokenisedRows, tokenised_rows, write_tokens
from softprompt.engine.batches import Example
from softprompt.engine.encoding import answers_for
from softprompt.engine.task import EncodedTask

CHARACTERS_A_ROW, TOKENS_A_ROW = 2000, 500
WORDS = [
    f"{start}{end}" for start in ("par", "can", "inv", "mon", "mess", "twi", "ord") for end in ("cel", "oice", "day", "age", "ce")
]
LABELS = ("blue", "green", "red")

MEASURE = """
import gc, resource, sys
from itertools import islice
from pathlib import Path

from tests.big_dataset import SOURCES
from softprompt.engine.batches import epochs

def status(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))

source, limit, arguments = SOURCES[sys.argv[1]], int(sys.argv[2]) * 2**20, sys.argv[3:]
load = source(*map(Path, arguments[:2]), *map(int, arguments[2:]))
gc.collect()
open("/proc/self/clear_refs", "w").write("5")  # VmHWM, the peak, starts anew
before, before_anonymous = status("VmRSS"), status("RssAnon")
# The system refuses private memory beyond this (MemoryError, or an abort); files that are mapped do not count.
resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + limit,) * 2)
rows = load()
written = status("VmHWM") - before
count = sum(1 for batch in islice(epochs(rows.lengths, 32, 0), -(-len(rows) // 32)) if [rows[row] for row in batch])
print("rows", len(rows))
print("batches", count)
print("token_bytes", sum(rows.lengths) * 4)
print("peak_growth_while_writing_bytes", written)
print("peak_growth_bytes", status("VmHWM") - before)
print("anonymous_growth_bytes", status("RssAnon") - before_anonymous)
print("mapped_file_bytes", status("RssFile"))
"""


def from_text(base: Path, dataset: Path) -> Callable[[], TokenisedRows]:
    """The loader over a dataset artifact, warmed up: the tokenizer has caches and threads of its own."""
    task = EncodedTask.create(load_text_side(base), "Thing: {text}\nColour:", answers_for(LABELS, {}))
    task.examples([({"text": "warm up " * 50}, "red")] * 256)
    return lambda: tokenised_rows(dataset, task, fingerprint="0" * 64)


def from_tokens(folder: Path, _: Path, megabytes: int) -> Callable[[], TokenisedRows]:
    """The loader over rows of 500 tokens that somebody tokenises as fast as a loop can."""

    def load() -> TokenisedRows:
        draw = np.random.default_rng(0)
        chunks = (
            draw.integers(3, 300, (256, TOKENS_A_ROW)).tolist() for _ in range(megabytes * 10**6 // (1024 * TOKENS_A_ROW) + 1)
        )
        write_tokens(folder, ([Example(ids, [2], 0) for ids in chunk] for chunk in chunks))
        return TokenisedRows(folder)

    return load


SOURCES = {"text": from_text, "tokens": from_tokens}


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
    empty = DatasetManifest(
        content_digest="0" * 64,
        num_rows={"train": rows, "validation": 0, "test": 0},
        labels=LABELS,
        num_rows_by_label={},
        num_dropped={},
        findings=(),
    )
    (directory / "manifest.json").write_bytes(empty.to_bytes())
    return directory


def _text(draw: random.Random) -> str:
    words = draw.choices(WORDS, k=CHARACTERS_A_ROW // 6)
    return " ".join(words)[:CHARACTERS_A_ROW]
