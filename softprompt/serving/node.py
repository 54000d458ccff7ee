"""One serving node: everything that answering a request takes, put together once."""

from dataclasses import dataclass, field

from softprompt.base_model import TextSide
from softprompt.errors import FingerprintMismatch, InvalidRequest, ServiceUnavailable, SoftpromptError
from softprompt.serving.access import Access
from softprompt.serving.bank import PromptBank, WarmPrompt
from softprompt.serving.follower import Follower
from softprompt.serving.jobs import Engine
from softprompt.serving.limits import Admission, Limits
from softprompt.serving.metrics import Metrics
from softprompt.serving.routing import Route


@dataclass(frozen=True, kw_only=True)
class Node:
    """What an application needs of the machine it runs on."""

    text: TextSide
    """Of the base model that runs here."""
    follower: Follower
    bank: PromptBank
    engine: Engine
    access: Access
    limits: Limits = field(default_factory=Limits)
    admission: Admission = field(init=False)
    metrics: Metrics = field(default_factory=Metrics)
    base_name: str = ""
    """What the bare base is asked by; empty: it cannot be asked."""
    poll_seconds: float = 5.0
    """How often the channel is looked at; each time up to a fifth earlier or later, so that a fleet does not look at once."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "admission", Admission(self.limits))
        self.metrics.watch(self)

    def warm(self, route: Route) -> WarmPrompt | None:
        """The prompt of a route, loaded unless it is warm; None: the bare base.

        Raises:
            FingerprintMismatch: It was trained on another base.
            ServiceUnavailable: This node cannot have it now; the error before says why.
        """
        if not route.digest:
            return None
        try:
            return self.bank.get(route.digest, route.snapshot)
        except FingerprintMismatch:
            raise
        except SoftpromptError as error:
            raise ServiceUnavailable(error.what, **error.facts) from error


def check_base_name(name: str) -> str:
    """A name for the bare base that no prompt can have.

    Raises:
        InvalidRequest: A prompt could be called so.
    """
    if name and not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789-"):
        raise InvalidRequest(
            "A prompt could have this name, so it cannot be the bare base's: nobody may get the bare base by accident.",
            where="--bare-base",
            expected="a name with a capital letter, a dot, a slash, a colon or an underscore",
            actual=name,
            hint=f"Call it base:{name}, say.",
        )
    return name
