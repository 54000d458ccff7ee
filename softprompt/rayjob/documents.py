"""Request and result of a RayJob, as they lie in object storage."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from softprompt.artifact import Sha256
from softprompt.documents import Document
from softprompt.errors import SoftpromptError, error_of
from softprompt.step_request import StepRequest

MOST_FILES = 10_000
OutputName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]


class StoredFile(Document):
    """A file of an input or output."""

    path: Annotated[str, StringConstraints(max_length=1000)]
    """In its folder, with `/`; empty: the input or output is this one file."""
    sha256: Sha256
    length_bytes: int = Field(ge=0)

    @model_validator(mode="after")
    def _check_path(self) -> Self:
        parts = self.path.split("/")
        if self.path and (not self.path.isprintable() or "\\" in self.path or any(part in ("", ".", "..") for part in parts)):
            raise ValueError("path: it leads out of its folder")
        return self


FileTable = Annotated[tuple[StoredFile, ...], Field(max_length=MOST_FILES)]


class JobRequest(Document):
    """All that a RayJob's pods are asked."""

    schema_version: Literal[1] = 1
    request: StepRequest
    inputs: dict[str, FileTable]
    outputs: dict[str, OutputName]
    """Name of each output -> what its file or folder is called; they lie side by side."""


class ToldError(Document):
    """An error that the work ended with."""

    kind: str
    what: str
    facts: dict[str, str]

    @classmethod
    def of(cls, error: SoftpromptError) -> Self:
        """An error as a document."""
        return cls(kind=type(error).__name__, what=error.what, facts=error.facts)

    def error(self) -> SoftpromptError:
        """The error itself."""
        return error_of(self.kind, self.what, self.facts)


class JobResult(Document):
    """What came out; written after everything that it names."""

    schema_version: Literal[1] = 1
    request: Sha256
    """Digest of the request that this answers."""
    outputs: dict[str, FileTable]
    error: ToldError | None = None
    """What the step has to end with; outputs that were written before are there."""
