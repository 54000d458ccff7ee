"""Prompts and texts for an engine over tiny bases, and an ear that hears what becomes of a text."""

import threading
from dataclasses import dataclass, field

import torch

from softprompt.base_model import FrozenBase
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.serving.bank import WarmPrompt
from softprompt.serving.jobs import Failed, Finished, GenerateJob, NewToken

NEVER = -1
"""An end token that no base ever says."""


def warm(base: FrozenBase, values: torch.Tensor | None, name: str = "a") -> WarmPrompt | None:
    """A prompt as the bank keeps it, without a file; these tests feed token ids."""
    if values is None:
        return None
    predictor = Predictor(base, None, SoftPrompt(values))  # type: ignore[arg-type]
    return WarmPrompt(name * 64, None, predictor, predictor.prefix.num_bytes)  # type: ignore[arg-type]


@dataclass
class Ear:
    """Hears one text; `on_token` is called with the number of tokens so far."""

    on_token: object = None
    tokens: list[NewToken] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    last: Finished | Failed | None = None

    def __call__(self, event):
        assert self.last is None, f"{event} after {self.last}"
        if isinstance(event, NewToken):
            self.tokens.append(event)
            if self.on_token:
                self.on_token(len(self.tokens))
        else:
            self.last = event
            self.ended.set()

    def wait(self):
        """Until it ended; the reason."""
        assert self.ended.wait(120), "the engine did not say how the text ended"
        if isinstance(self.last, Failed):
            raise self.last.error
        return self.last.reason

    @property
    def ids(self):
        """Token ids."""
        return [token.token_id for token in self.tokens]


def write(engine, prompt, ids, num_tokens=64, **options) -> Ear:
    """Ask for a text."""
    ear = Ear(options.pop("on_token", None))
    ear.ticket = engine.generate(GenerateJob(prompt=prompt, token_ids=tuple(ids), max_new_tokens=num_tokens, **options), ear)
    return ear
