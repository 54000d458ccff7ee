"""Base models and datasets from the Hugging Face hub, through the hub's own cache, which keeps snapshots by commit."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from softprompt.errors import BaseModelUnavailable, DatasetRefused
from softprompt.fetch.data_files import DATA_ENDINGS, DataFile, data_names, format_of

BASE_MODEL_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_HINT = "Check name and revision; behind a mirror set HF_ENDPOINT, for a private repository HF_TOKEN."
# Of revisions only the hub's own references have slashes: what follows any other is a folder.
_DATASET = re.compile(r"datasets/(?P<name>[^/@]+/[^/@]+)@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/@]+)(?:/(?P<folder>.*))?")


def base_from_hub(place: str) -> Path:
    """The snapshot of `ORG/NAME@REVISION`. BaseModelUnavailable: it is not here, and the hub does not give it."""
    name, _, revision = place.rpartition("@")
    with _absent("The base model", place, BaseModelUnavailable):
        return _snapshot(name, revision, list(BASE_MODEL_PATTERNS), "model")


def dataset_from_hub(place: str) -> tuple[DataFile, ...]:
    """The data files of `datasets/ORG/NAME@REVISION`, or of a folder or a file in it.

    Everything else in the repository, scripts above all, is neither fetched nor looked at.

    Raises:
        DatasetRefused: It is not here and the hub does not give it, or there is no data in it.
    """
    found = _DATASET.fullmatch(place)
    if not found:
        expected = "hf://datasets/ORG/NAME@REVISION, or with /FOLDER after it"
        raise DatasetRefused("This does not name a dataset of the hub.", where=f"hf://{place}", expected=expected)
    folder = (found["folder"] or "").strip("/")
    with _absent("The dataset", place, DatasetRefused):
        snapshot = _snapshot(found["name"], found["revision"], _patterns(folder), "dataset")
    if format_of(folder) and (snapshot / folder).is_file():
        return (DataFile(Path(folder).name, snapshot / folder),)
    return _files_below(snapshot / folder, f"hf://{place}")


@contextmanager
def _absent(what: str, place: str, error_class: type[BaseModelUnavailable | DatasetRefused]) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise error_class(
            f"{what} is not on this machine, and the hub did not give it.",
            where=f"hf://{place}",
            actual=_first_line(error),
            hint=_HINT,
        ) from None


def _snapshot(name: str, revision: str, patterns: list[str], kind: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    download: Any = snapshot_download
    try:
        return Path(download(name, revision=revision, allow_patterns=patterns, repo_type=kind))
    except HfHubHTTPError as error:
        raise OSError(str(error)) from None


def _patterns(folder: str) -> list[str]:
    beginning = f"{folder}/*" if folder else "*"
    return [*([folder] if format_of(folder) else []), *(beginning + ending for ending in DATA_ENDINGS)]


def _files_below(folder: Path, where: str) -> tuple[DataFile, ...]:
    """The hub's cache is links to its blobs, so that links are followed here; other files are there for other callers."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return tuple(DataFile(name, folder / name) for name in data_names(filter(format_of, names), where=where))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
