"""Every error a person can meet, drawn once, with the exit code each one ends a command with.

    SoftpromptError                    1   a fault of ours
    ├── InvalidRequest                 2   the recipe or the command is wrong
    │   ├── InvalidRecipe              2   ... a key of the recipe
    │   ├── BaseModelUnavailable       2   ... the base model it names
    │   ├── UnsupportedBaseModel       2   ... what is asked of the base model cannot be done exactly
    │   └── FingerprintMismatch        2   a prompt met a base model it was not trained on
    ├── NotANumber                     2   the base model's numbers overflow: no answer can be believed
    ├── DatasetRefused                 3   the dataset would ruin a prompt
    ├── GatesRejected                  4   the evaluation gates rejected the prompt
    ├── ServiceUnavailable             5   a service failed
    │   ├── StoreUnavailable           5   ... the object store
    │   ├── TrackingUnavailable        5   ... the MLflow tracking server
    │   ├── GitUnavailable             5   ... the Git remote
    │   ├── ClusterUnavailable         5   ... the Kubernetes API, or what it was to run
    │   ├── PipelinesUnavailable       5   ... the Kubeflow Pipelines server
    │   ├── RunFailed                  5   ... did not bring a run to its end; the log of its step says why
    │   └── VerificationFailed         5   ... delivered something that does not verify
    ├── GatesUndecided                 6   the evidence was not enough for a verdict
    └── PublishUnknown                 7   nobody can say whether a publish took effect

A message says what failed, which thing, expected, actual, and what to do next. A stack trace is printed for code 1 only.
"""

from typing import ClassVar


class SoftpromptError(Exception):
    """What failed, in one sentence, with the facts that a person needs to mend it.

    Args:
        what: One sentence: what failed.
        where: Which thing: a file and line, a URI, a key's path, a row, a digest.
        expected: What should have been there.
        actual: What was there.
        hint: What to do next.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", expected: str = "", actual: str = "", hint: str = "") -> None:
        self.what, self.where, self.expected, self.actual, self.hint = what, where, expected, actual, hint
        super().__init__(what)

    @property
    def facts(self) -> dict[str, str]:
        """Everything but the sentence."""
        return {"where": self.where, "expected": self.expected, "actual": self.actual, "hint": self.hint}

    def __str__(self) -> str:
        named = [("where", self.where), ("expected", self.expected), ("actual", self.actual), ("to do", self.hint)]
        return "\n".join([self.what, *(f"  {name + ':':<10}{fact}" for name, fact in named if fact)])


def error_of(name: str, what: str, facts: dict[str, str]) -> SoftpromptError:
    """The error that another process wrote down as its class's name, sentence and facts."""
    kinds = {kind.__name__: kind for kind in _descendants(SoftpromptError)}
    return kinds.get(name, SoftpromptError)(what, **facts)


def _descendants(kind: type[SoftpromptError]) -> list[type[SoftpromptError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _descendants(child))]


class InvalidRequest(SoftpromptError):
    """The recipe, the command or one of its arguments is wrong."""

    exit_code = 2


class InvalidRecipe(InvalidRequest):
    """A recipe does not say something that can be done; `where` is the file, line and key's path."""


class BaseModelUnavailable(InvalidRequest):
    """There is no loadable base model at the URI."""


class UnsupportedBaseModel(InvalidRequest):
    """The base model is there, but what was asked of it cannot be done exactly."""


class FingerprintMismatch(InvalidRequest):
    """A prompt met a base model other than the one it was trained on."""


class NotANumber(SoftpromptError):
    """The base model gave NaN where probabilities should be."""

    exit_code = 2


class DatasetRefused(SoftpromptError):
    """The dataset has faults that would ruin a prompt."""

    exit_code = 3


class GatesRejected(SoftpromptError):
    """The evaluation gates rejected the prompt."""

    exit_code = 4


class ServiceUnavailable(SoftpromptError):
    """A service that the work needs did not answer, or answered with a failure."""

    exit_code = 5


class StoreUnavailable(ServiceUnavailable):
    """The object store refused, did not answer, or lacks a property that the release protocol needs."""


class TrackingUnavailable(ServiceUnavailable):
    """The MLflow tracking server did not answer."""


class GitUnavailable(ServiceUnavailable):
    """The Git remote did not answer, or refused."""


class ClusterUnavailable(ServiceUnavailable):
    """The Kubernetes API did not answer, or refused, or what it was to run did not come to its end."""


class PipelinesUnavailable(ServiceUnavailable):
    """The Kubeflow Pipelines server did not answer, or refused."""


class RunFailed(ServiceUnavailable):
    """A run on Kubeflow Pipelines failed or was ended; which error its step told is in that step's log only."""


class VerificationFailed(ServiceUnavailable):
    """Bytes that came from elsewhere are not what their digest, signature or schema says."""


class GatesUndecided(SoftpromptError):
    """The intervals of the measurements straddle a gate's threshold: more rows are needed."""

    exit_code = 6


class PublishUnknown(SoftpromptError):
    """A publish timed out and the key could not be read back: it may or may not have taken effect."""

    exit_code = 7
