"""The files of a dataset on this machine: which endings are data, what lies in a directory, and what identifies them."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from softprompt.documents import canonical_json, sha256_hex
from softprompt.errors import DatasetRefused

_TEXT = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}
_COLUMNAR = {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow"}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
# What lies beside data and is known not to be data: Spark's and the hub's markers, descriptions, licences.
_ASIDE = ("_*", ".*", "README*", "LICENSE*", "*.md", "*.json")

DATA_ENDINGS = (*(text + more for text in _TEXT for more in ("", *_COMPRESSIONS)), *_COLUMNAR)
"""What is read, by the end of a file's name; capital letters are as good."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a dataset.

    Attributes:
        name: As people know it, relative to the dataset: `rows.jsonl`, `part/a.csv.gz`.
        path: Where it is on this machine.
    """

    name: str
    path: Path


def format_of(name: str) -> str:
    """`jsonl`, `csv`, `tsv`, `parquet` or `arrow` by the name's ending; empty for any other."""
    ending = PurePosixPath(name.lower()).suffix
    return _COLUMNAR.get(ending) or _TEXT.get(PurePosixPath(_uncompressed(name.lower())).suffix, "")


def compression_of(name: str) -> str:
    """`gzip`, `zstd` or empty."""
    return _COMPRESSIONS.get(PurePosixPath(name.lower()).suffix, "")


def unknown_ending(name: str, *, where: str = "") -> DatasetRefused:
    """The error for a file that is not read."""
    hint = ""
    if compression_of(name) and PurePosixPath(_uncompressed(name.lower())).suffix in _COLUMNAR:
        hint = "Parquet and Arrow compress inside the file: decompress this one."
    return DatasetRefused(
        "This kind of file is not read as a dataset.",
        where=where or name,
        expected=f"a name that ends in {', '.join([*_TEXT, *_COLUMNAR])}; text also with {' or '.join(_COMPRESSIONS)} after it",
        actual=PurePosixPath(name).suffix or "no ending",
        hint=hint,
    )


def data_names(names: Iterable[str], *, where: str) -> list[str]:
    """Those of a directory's files that are data, sorted.

    Hidden files, what starts with an underscore, READMEs, licences and JSON descriptions lie beside many datasets and are
    passed over. Anything else that is not data is refused: it may be the half of the rows that nobody would miss.

    Raises:
        DatasetRefused: A file that is neither, a name that cannot be shown, or no data at all.
    """
    found = []
    for name in sorted(names):
        if _is_aside(name):
            continue
        found.append(data_name(name, where=f"{where}, file {name}"))
    if not found:
        raise DatasetRefused("There is no data in this directory.", where=where, expected=f"files {', '.join(DATA_ENDINGS)}")
    return found


def data_name(name: str, *, where: str) -> str:
    """The name itself. DatasetRefused: it is not the name of data, or leads out of its directory or garbles a message."""
    if not name.isprintable() or "\\" in name or name.startswith("/") or any(part in ("", "..", ".") for part in name.split("/")):
        raise DatasetRefused("A file of the dataset has a name that is not read.", where=ascii(where), actual=ascii(name))
    if not format_of(name):
        raise unknown_ending(name, where=where)
    return name


def files_at(path: Path) -> tuple[DataFile, ...]:
    """A file, or all data below a directory in the order of their names.

    Raises:
        DatasetRefused: Nothing is there, nothing of it is data, or a link leads out of the directory.
    """
    if path.is_dir():
        return tuple(DataFile(name, path / name) for name in data_names(_names_below(path), where=str(path)))
    if not path.is_file():
        hint = "Check dataset.uri; a relative path counts from the recipe's folder."
        raise DatasetRefused("The dataset is not there.", where=str(path), hint=hint)
    return (DataFile(data_name(path.name, where=str(path)), path),)


def dataset_sha256(files: Sequence[DataFile]) -> str:
    """Identity of a dataset's bytes: of one file its sha256, of several the sha256 over the canonical [[name, sha256], ...]."""
    if len(files) == 1:
        return file_sha256(files[0].path)
    return sha256_hex(canonical_json([[file.name, file_sha256(file.path)] for file in files]))


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """Identity of the files that lie in a folder: the sha256 over the canonical [[name, sha256], ...]."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return sha256_hex(canonical_json([[path.name, file_sha256(path)] for path in files]))


def _uncompressed(name: str) -> str:
    return name.removesuffix(PurePosixPath(name).suffix) if compression_of(name) else name


def _is_aside(name: str) -> bool:
    """Whether a file, or a folder above it, is known not to be data."""
    *folders, last = PurePosixPath(name).parts
    return any(part.startswith(("_", ".")) and part != ".." for part in folders) or any(
        PurePosixPath(last).match(pattern) for pattern in _ASIDE
    )


def _names_below(folder: Path) -> list[str]:
    names = []
    root = folder.resolve()
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            entry = Path(path, name)
            relative = entry.relative_to(folder).as_posix()
            if not _is_aside(relative) and (entry.is_symlink() or not (entry.is_file() or entry.is_dir())):
                _refuse_link(entry, relative, root)
        names += [Path(path, name).relative_to(folder).as_posix() for name in files]
    return names


def _refuse_link(entry: Path, relative: str, root: Path) -> None:
    """Only a link to a file of the same directory is followed: what a recipe names is all that is read."""
    if not (entry.is_file() and entry.resolve().is_relative_to(root)):
        raise DatasetRefused(
            "A dataset's directory holds something that is not followed.",
            where=f"{root}, file {relative}",
            expected="files, folders, and links to files of the same directory",
            actual=f"link to {os.readlink(entry)}" if entry.is_symlink() else "neither a file nor a folder",
            hint="Copy the file to where the link is, or name its own place in dataset.uri.",
        )
