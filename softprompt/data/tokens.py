"""Training rows as token ids in memory-mapped files: tokenised once on a machine, never held in memory.

    tokens.uint32     input and answer of row after row
    bounds.int64      2R + 1 places in it: row 0's input, row 0's answer, row 1's input, ..., the end
    answers.int32     R: each row's answer in the trie; -1 where answers are open
    counts.int64      how often each token id stands in an input
    manifest.json     written last

A folder is named after everything that its numbers follow from, and appears under that name complete or not at all, so all
candidates, all workers of a machine, and all later runs on the same rows read the same files.
"""

import mmap
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from softprompt.data.dataset import iter_part, part_file
from softprompt.documents import Document, canonical_json, sha256_hex
from softprompt.engine.batches import Example
from softprompt.engine.task import EncodedTask
from softprompt.errors import VerificationFailed
from softprompt.fetch import cache_folder, file_sha256
from softprompt.fetch.cache import draft_beside
from softprompt.release.durable import file_lock

LAYOUT = 1
"""Part of a folder's name: other code that writes other files calls them otherwise."""
ROWS_AT_ONCE = 64
"""Tokenised by one call: a tokenizer's own records take some two hundred bytes a token."""
READS_BETWEEN_RELEASES = 512
"""A page fault maps up to 64 KiB, so at most 32 MiB of the file are in a process's resident memory."""
LONGEST_WAIT_SECONDS = 4 * 3600.0
"""For another worker of this machine that tokenises the same rows."""
TYPES = {"tokens": np.uint32, "bounds": np.int64, "answers": np.int32, "counts": np.int64}


class TokensManifest(Document):
    """What a folder of tokenised rows holds."""

    num_bytes: dict[str, int]
    """Length of each file."""


class TokenisedRows(Sequence[Example]):
    """Rows in tokens, each read from the file when it is asked for.

    Args:
        directory: A complete folder.

    Raises:
        VerificationFailed: It is not complete.
    """

    def __init__(self, directory: Path) -> None:
        _check(directory)
        with (directory / _name("tokens")).open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._map.madvise(mmap.MADV_RANDOM)
        self._tokens = np.frombuffer(self._map, dtype=TYPES["tokens"])
        self._bounds, self._answers, self._counts = (_mapped(directory, kind) for kind in ("bounds", "answers", "counts"))
        self._reads = 0

    def __len__(self) -> int:
        return len(self._answers)

    @overload
    def __getitem__(self, row: int) -> Example: ...
    @overload
    def __getitem__(self, row: slice) -> list[Example]: ...
    def __getitem__(self, row: int | slice) -> Example | list[Example]:
        """One row, or a list of some."""
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        place = range(len(self))[row]
        start, middle, end = self._bounds[2 * place : 2 * place + 3].tolist()
        example = Example(self._tokens[start:middle].tolist(), self._tokens[middle:end].tolist(), int(self._answers[place]))
        self._release()
        return example

    @cached_property
    def lengths(self) -> Sequence[int]:
        """Tokens of input and answer of each row: the one thing that is in memory for every row, four bytes of it."""
        return array("i", np.subtract(self._bounds[2::2], self._bounds[:-2:2], dtype=np.int32, casting="unsafe").tobytes())

    @property
    def mean_length(self) -> float:
        """Tokens of input and answer of a row, on the mean."""
        return int(self._bounds[-1]) / len(self)

    @property
    def token_counts(self) -> Counter[int]:
        """How often each token id stands in an input."""
        (seen,) = np.nonzero(self._counts)
        return Counter(dict(zip(seen.tolist(), self._counts[seen].tolist(), strict=True)))

    def _release(self) -> None:
        """Give mapped pages back from time to time, else resident memory grows to the size of the file."""
        self._reads += 1
        if self._reads % READS_BETWEEN_RELEASES == 0:
            self._map.madvise(mmap.MADV_DONTNEED)


def tokenised_rows(dataset: Path, task: EncodedTask, *, fingerprint: str) -> TokenisedRows:
    """The training rows of a dataset artifact in tokens; made now unless this machine has them.

    Args:
        dataset: Dataset artifact.
        task: Template and answers.
        fingerprint: Of the base model, and so of its tokenizer.

    Raises:
        VerificationFailed: The artifact cannot be read.
        ServiceUnavailable: Another process has been tokenising the same rows for hours.
    """
    answers = [[answer.label, answer.text] for answer in task.answers]
    key = [LAYOUT, file_sha256(part_file(dataset, "train")), fingerprint, task.encoder.template, answers]
    folder = cache_folder() / "tokens" / sha256_hex(canonical_json(key))
    if not folder.is_dir():
        with file_lock(folder.with_suffix(".lock"), timeout_seconds=LONGEST_WAIT_SECONDS):
            if not folder.is_dir():
                write_tokens(folder, _examples(dataset, task))
    return TokenisedRows(folder)


def write_tokens(directory: Path, chunks: Iterable[list[Example]]) -> None:
    """Write rows into a folder, complete or not at all.

    Args:
        directory: Must not exist.
        chunks: Some rows at a time; no more than one chunk is held.
    """
    with draft_beside(directory) as draft:
        _write_files(draft, chunks)
        manifest = TokensManifest(num_bytes={kind: (draft / _name(kind)).stat().st_size for kind in TYPES})
        (draft / "manifest.json").write_bytes(manifest.to_bytes())
        draft.rename(directory)


def _write_files(draft: Path, chunks: Iterable[list[Example]]) -> None:
    end, counts = 0, np.zeros(0, TYPES["counts"])
    with (
        (draft / _name("tokens")).open("wb") as tokens,
        (draft / _name("bounds")).open("wb") as bounds,
        (draft / _name("answers")).open("wb") as answers,
    ):
        bounds.write(np.array([0], TYPES["bounds"]).tobytes())
        for chunk in chunks:
            pieces = [piece for example in chunk for piece in (example.input_ids, example.answer_ids)]
            ends = np.fromiter(accumulate(map(len, pieces)), TYPES["bounds"]) + end
            tokens.write(_flat(pieces).tobytes())
            bounds.write(ends.tobytes())
            answers.write(np.array([example.answer for example in chunk], TYPES["answers"]).tobytes())
            counts = _sum(counts, np.bincount(_flat([example.input_ids for example in chunk])))
            end = int(ends[-1])
    (draft / _name("counts")).write_bytes(counts.tobytes())


def _examples(dataset: Path, task: EncodedTask) -> Iterator[list[Example]]:
    chunk = []
    for row in iter_part(dataset, "train"):
        chunk.append((row.inputs, row.target))
        if len(chunk) == ROWS_AT_ONCE:
            yield task.examples(chunk)
            chunk = []
    if chunk:
        yield task.examples(chunk)


def _flat(sequences: Iterable[list[int]]) -> NDArray[np.uint32]:
    return np.fromiter(chain.from_iterable(sequences), TYPES["tokens"])


def _sum(counts: NDArray[Any], more: NDArray[Any]) -> NDArray[np.int64]:
    total = np.zeros(max(len(counts), len(more)), TYPES["counts"])
    total[: len(counts)] += counts
    total[: len(more)] += more
    return total


def _check(directory: Path) -> None:
    try:
        manifest = TokensManifest.from_bytes((directory / "manifest.json").read_bytes(), source=str(directory))
        actual = {kind: (directory / _name(kind)).stat().st_size for kind in TYPES}
    except OSError as error:
        raise VerificationFailed("A folder of tokenised rows is not complete.", where=str(directory), actual=str(error)) from None
    if actual != manifest.num_bytes:
        raise VerificationFailed(
            "A folder of tokenised rows is not what was written.",
            where=str(directory),
            expected=str(manifest.num_bytes),
            actual=str(actual),
            hint="Remove the folder; it is made again.",
        )


def _mapped(directory: Path, kind: Literal["bounds", "answers", "counts"]) -> NDArray[Any]:
    return np.memmap(directory / _name(kind), dtype=TYPES[kind], mode="r")


def _name(kind: str) -> str:
    return f"{kind}.{np.dtype(TYPES[kind]).name}"
