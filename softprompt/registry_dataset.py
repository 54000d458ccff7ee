"""The dataset of a run as MLflow knows datasets: where it came from, without secrets, and the digest of what it says."""

from typing import Any, Self

from mlflow.data.dataset import Dataset
from mlflow.data.dataset_source import DatasetSource

from softprompt.data.dataset import DatasetManifest
from softprompt.documents import canonical_json
from softprompt.fetch import fetch_dataset
from softprompt.fetch.web import without_secrets
from softprompt.resolve import ResolvedFile, ResolvedRecipe

CONTEXT = "train, validation, test"
"""All parts of a run are one dataset with one digest."""
MOST_DIGEST_CHARACTERS = 36
"""MLflow's own limit; the whole digest stands in the source."""


class FilesSource(DatasetSource):
    """Files that a URI names, as they were.

    Args:
        files: URIs without secrets, and the sha256 of their bytes.
        content_digest: Of the rows that were made of them.
    """

    def __init__(self, files: list[dict[str, str]], content_digest: str) -> None:
        self.files, self.content_digest = files, content_digest

    @classmethod
    def of(cls, files: list[ResolvedFile], content_digest: str) -> Self:
        """The source of a run's dataset."""
        return cls([{"uri": without_secrets(file.uri), "sha256": file.sha256} for file in files], content_digest)

    @staticmethod
    def _get_source_type() -> str:
        return "softprompt"

    def load(self) -> list[str]:
        """Paths of the files on this machine, if they are still what they were."""
        found = (fetch_dataset(file["uri"], expected_sha256=file["sha256"]) for file in self.files)
        return [str(file.path) for files in found for file in files]

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> Self:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """What MLflow keeps."""
        return {"files": self.files, "content_digest": self.content_digest}

    @classmethod
    def from_dict(cls, source_dict: dict[str, Any]) -> Self:
        """The source again."""
        return cls(source_dict["files"], source_dict["content_digest"])


class LoggedDataset(Dataset):
    """A validated dataset.

    Args:
        name: The recipe's.
        resolved: Says where the files are.
        manifest: Says what is in them.
    """

    def __init__(self, name: str, resolved: ResolvedRecipe, manifest: DatasetManifest) -> None:
        self._manifest = manifest
        files = [file for file in (resolved.dataset, resolved.test_dataset) if file]
        source = FilesSource.of(files, manifest.content_digest)
        super().__init__(source=source, name=name, digest=manifest.content_digest[:MOST_DIGEST_CHARACTERS])

    def _compute_digest(self) -> str:
        return self._manifest.content_digest[:MOST_DIGEST_CHARACTERS]

    @property
    def profile(self) -> dict[str, Any]:
        """Rows by part, labels, what was left out."""
        manifest = self._manifest
        return {"num_rows": manifest.num_rows, "labels": len(manifest.labels), "num_dropped": manifest.num_dropped}

    @property
    def schema(self) -> None:
        """None: the recipe says what the columns mean."""

    def to_dict(self) -> dict[str, str]:
        """What MLflow keeps."""
        config: dict[str, str] = super().to_dict()
        return config | {"profile": canonical_json(self.profile).decode()}
