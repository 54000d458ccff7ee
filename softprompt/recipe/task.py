"""What a recipe's prompt has to do."""

from typing import Self

from pydantic import Field, model_validator

from softprompt.documents import Document
from softprompt.names import TaskType, Text
from softprompt.template import template_fields


class TaskSpec(Document):
    """What the prompt has to do."""

    type: TaskType
    """`classification`: pick one of the labels. `generation`: write a text."""
    template: Text
    """The input text around a row's columns, each in braces: `"Message: {text}\\nAnswer:"`; `{{` is a brace. For conversations
    `"{messages}"`: the base model's own chat template."""
    labels: tuple[Text, ...] = ()
    """The labels there are. Default: those of the training rows."""
    verbalisers: dict[str, Text] = Field(default_factory=dict)
    """Label -> the answer text the model gives for it. Default: a space, then the label with `_` as spaces."""
    max_new_tokens: int = Field(default=64, ge=1, le=4096)
    """Longest generated answer, in tokens (generation only)."""

    @model_validator(mode="after")
    def _check_template(self) -> Self:
        if not fields_of("template", self.template):
            raise ValueError('template: names no column; put one in braces, as in "Message: {text}\\nAnswer:"')
        if (self.verbalisers or self.labels) and self.type == "generation":
            raise ValueError("verbalisers, labels: only a classification has labels")
        return self


def fields_of(key: str, template: str) -> tuple[str, ...]:
    """The columns that a template names; an unreadable one is a `ValueError` under its key."""
    try:
        return template_fields(template)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
