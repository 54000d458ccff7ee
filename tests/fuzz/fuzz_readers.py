"""Spoilt inputs for every reader: `python -m tests.fuzz.fuzz_readers --inputs 1000000 --seed 0`.

Each input is a good file with bytes flipped, cut, spliced with another or sprinkled with tokens that readers trip over. A
reader may refuse it, and nothing else: no other exception, no more than 100 ms, no memory that grows with the number of
inputs, no row with cells that are not strict JSON. The input that is being read lies in the folder that is printed, so that
a crash of the whole process leaves it there.
"""

import argparse
import gzip
import io
import json
import random
import re
import resource
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import zstandard

from softprompt.data.reading.records import DataFile, read_records
from softprompt.documents import canonical_json
from softprompt.errors import DatasetRefused

MAX_SECONDS = 0.1
MAX_GROWTH_MIB = 200
"""Over what the first hundredth of the inputs needed: Arrow's allocator keeps what it once had."""

_ROWS = [
    {"text": 'My card, "the blue one", was declined', "label": "card", "n": 1, "good": True},
    {"text": "Où est mon\nvirement ?", "label": "transfer", "n": -2, "good": False},
    {"text": "📨 " * 20, "label": "mail", "n": 2**40, "good": None},
]
_TOKENS = [
    b'"', b'""', b"'", b",", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"{", b"}", b"[", b"]", b":",
    b"\\", b"\\u", b"\\ud800", b"\\udc00", b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"null", b"true",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80",
    b'{"text":', b'"text"', b'"text" :', b'"label": "x",', b"[" * 40, b"]" * 40, b'{"a":' * 40, b"9" * 5000, b"a" * 300,
    b"PAR1", b"ARROW1", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f",
]  # fmt: skip


@dataclass
class Tally:
    """What a run of the fuzzer saw."""

    inputs: int = 0
    refused: int = 0
    records: int = 0
    faults: int = 0
    slowest_seconds: float = 0.0
    slowest: str = ""
    peak_growth_mib: float = 0.0
    failures: list[str] = field(default_factory=list)


def main() -> None:
    """Run, and print what was seen; exit status 1 if something failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    arguments = parser.parse_args()
    tally = fuzz(arguments.inputs, arguments.seed, max_seconds=arguments.seconds, verbose=True)
    print(
        f"{tally.inputs} inputs: {tally.refused} refused, {tally.records} rows of which {tally.faults} with faults; "
        f"slowest {tally.slowest_seconds * 1e3:.1f} ms ({tally.slowest}); memory grew {tally.peak_growth_mib:.0f} MiB; "
        f"{len(tally.failures)} failures"
    )
    raise SystemExit(bool(tally.failures))


def fuzz(num_inputs: int, seed: int, *, max_seconds: float = float("inf"), verbose: bool = False) -> Tally:
    """Read `num_inputs` spoilt files; the same seed spoils them alike."""
    tally, seeds, stop = Tally(), seed_files(), time.monotonic() + max_seconds
    names = sorted(seeds)
    start_mib = 0.0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None, prefix="fuzz-readers-") as folder:
        if verbose:
            print(f"inputs in {folder}", flush=True)
        for number in range(num_inputs):
            if time.monotonic() > stop:
                break
            rng = random.Random(f"{seed}:{number}")
            name = names[number % len(names)]
            _try(Path(folder), name, spoil(rng, seeds[name], seeds[rng.choice(names)]), f"{name}, input {number}", tally)
            tally.inputs += 1
            if number == num_inputs // 100:
                start_mib = _peak_mib()
            if verbose and number % 50_000 == 49_999:
                print(
                    f"{number + 1} inputs, {len(tally.failures)} failures, slowest {tally.slowest_seconds * 1e3:.1f} ms",
                    flush=True,
                )
    tally.peak_growth_mib = _peak_mib() - start_mib
    if tally.peak_growth_mib > MAX_GROWTH_MIB:
        tally.failures.append(f"memory grew by {tally.peak_growth_mib:.0f} MiB")
    return tally


def seed_files() -> dict[str, bytes]:
    """Name -> bytes of a good file, each format and compression."""
    jsonl = b"".join(canonical_json(row) + b"\n" for row in _ROWS)
    spaced = b"\xef\xbb\xbf" + "".join(json.dumps(row | {"more": [1.5, {"a": [None]}]}) + "\r\n" for row in _ROWS).encode()
    csv = b'text,label,n\n"My card, ""the blue one""",card,1\r\n"two\nlines",x,2\n\nplain,y,3\n'
    table = pa.table(
        {
            "text": [row["text"] for row in _ROWS],
            "n": pa.array([1.5, None, 3.0]),
            "day": pa.array([0, 1, None], pa.timestamp("us")),
            "label": pa.array(["a", "b", "a"]).dictionary_encode(),
            "tags": [["x"], [], None],
            "who": [{"name": "a", "age": 1}, None, {"name": "b", "age": 2}],
        }
    )
    files = {"a.jsonl": jsonl, "b.jsonl": spaced, "a.csv": csv, "a.tsv": csv.replace(b",", b"\t")}
    for name in ("a.jsonl", "a.csv"):
        files[f"{name}.gz"], files[f"{name}.zst"] = gzip.compress(files[name], mtime=0), zstandard.compress(files[name])
    for codec in ("none", "zstd", "snappy"):
        sink = io.BytesIO()
        parquet.write_table(
            table, sink, compression=codec, use_dictionary=codec != "none", data_page_version="2.0" if codec == "zstd" else "1.0"
        )
        files[f"{codec}.parquet"] = sink.getvalue()
    for name, make, compression in (
        ("a.arrow", pa.ipc.new_file, None),
        ("a.feather", pa.ipc.new_file, "lz4"),
        ("a.ipc", pa.ipc.new_stream, None),
    ):
        sink = io.BytesIO()
        with make(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
            writer.write_table(table)
        files[name] = sink.getvalue()
    return files


def spoil(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """One to four spoilings of a file."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(8):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at % len(data)] = rng.randrange(256)
            case 2:
                del data[at:]
            case 3:
                del data[at : at + rng.randrange(1, 30)]
            case 4:
                data[at:at] = rng.choice(_TOKENS) * rng.choice((1, 1, 1, 20))
            case 5:
                start = rng.randrange(len(other))
                data[at : at + rng.randrange(20)] = other[start : start + rng.randrange(200)]
            case 6:  # a header, or a Parquet footer with its length
                place = rng.choice((rng.randrange(16), max(0, len(data) - 1 - rng.randrange(16))))
                data[place : place + 1] = rng.randbytes(rng.choice((1, 4)))
            case _:
                data[at:at] = bytes(data[rng.randrange(len(data) + 1) :][: rng.randrange(400)])
    return bytes(data)


def _try(folder: Path, name: str, data: bytes, title: str, tally: Tally) -> None:
    path = folder / name
    path.write_bytes(data)
    try:
        seconds = _read(path, tally)
        if seconds > MAX_SECONDS:  # once more: a collection of garbage, or a library's first use
            seconds = min(seconds, _read(path, Tally()))
    except Exception as error:
        tally.failures.append(f"{title}: {error!r}")
        kept = Path(tempfile.gettempdir()) / f"fuzz-failure-{len(tally.failures)}-{name}"
        kept.write_bytes(data)
        print(f"{title}, kept as {kept}")
        traceback.print_exc(limit=-4)
        return
    if seconds > tally.slowest_seconds:
        tally.slowest_seconds, tally.slowest = seconds, title
    if seconds > MAX_SECONDS:
        tally.failures.append(f"{title}: {seconds * 1e3:.0f} ms")


def _read(path: Path, tally: Tally) -> float:
    """CPU seconds for a file."""
    records, start = [], time.process_time()
    try:
        records.extend(read_records([DataFile(path.name, path)]))
    except DatasetRefused:
        tally.refused += 1
    seconds = time.process_time() - start
    for record in records:
        assert (record.cells is None) == bool(record.fault), record
        if record.cells is not None:
            canonical_json(record.cells)
    tally.records += len(records)
    tally.faults += sum(record.cells is None for record in records)
    return seconds


def _peak_mib() -> float:
    """Most memory that this process had. Linux's own figure where there is one: the other starts at the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
