"""From what a client sent to the values of a prompt's template, or a refusal that says what the prompt takes.

A prompt that was tuned on conversations takes them as they are, through the base model's own chat template. Any other prompt was
tuned on texts: a conversation of one message of the user is that text, and anything more has no meaning for it. A message of the
system would be an instruction that the prompt was never tuned with, so it is refused rather than dropped.
"""

from collections.abc import Mapping, Sequence

from softprompt.engine.conversation import RenderChat
from softprompt.engine.encoding import CONVERSATION_TEMPLATE
from softprompt.errors import InvalidRequest
from softprompt.serving.http.errors import BadParameter
from softprompt.serving.http.models import Message
from softprompt.template import template_fields, values_for

BARE_TEMPLATE = "{text}"
"""The bare base continues the text itself."""


def values_of_texts(template: str, given: str | Mapping[str, str] | Sequence[str], param: str) -> list[dict[str, str]]:
    """Values for each text.

    Args:
        template: The prompt's.
        given: One text, the values of several fields, or several texts.
        param: What they were sent as.

    Raises:
        BadParameter: They do not fit the template.
    """
    if template == CONVERSATION_TEMPLATE:
        raise BadParameter(
            param, "This prompt was tuned on conversations; ask it through /v1/chat/completions.", code="unsupported_value"
        )
    texts: list[str | dict[str, str]] = list(given) if isinstance(given, list) else [_one(given)]
    try:
        return [values_for(template, text) for text in texts]
    except InvalidRequest as error:
        raise BadParameter(param, error.what, **error.facts) from None


def values_of_conversation(template: str, messages: Sequence[Message], render: RenderChat | None) -> dict[str, str]:
    """Values for a conversation.

    Args:
        template: The prompt's.
        messages: What was said.
        render: The base's chat template; None: it has none.

    Raises:
        BadParameter: It has no meaning for this prompt.
    """
    if template == CONVERSATION_TEMPLATE:
        return {template[1:-1]: _rendered(messages, render)}
    fields = template_fields(template)
    if len(fields) != 1:
        raise BadParameter(
            "messages",
            "This prompt takes several texts, which a conversation cannot name.",
            code="unsupported_value",
            expected=f"/v1/completions or /v1/classify with values for {', '.join(fields)}",
        )
    if len(messages) != 1 or messages[0].role != "user" or not messages[0].text:
        raise BadParameter(
            "messages",
            "This prompt was tuned on single texts, not on conversations.",
            code="unsupported_value",
            expected="one message of the user",
            actual=", ".join(message.role for message in messages[:8]),
        )
    return {fields[0]: messages[0].text}


def _rendered(messages: Sequence[Message], render: RenderChat | None) -> str:
    if render is None:
        raise BadParameter("messages", "The base model of this node has no chat template.", code="unsupported_value")
    if messages[-1].role == "assistant":
        raise BadParameter("messages", "The last message is the assistant's own; there is nothing to answer.")
    try:
        return render([{"role": message.role, "content": message.text} for message in messages])
    except Exception:  # noqa: BLE001 - chat templates are programs, and raise what they like
        raise BadParameter(
            "messages",
            "The base model's chat template refuses this conversation.",
            code="unsupported_value",
            hint="Most want the roles user and assistant in turn, some allow system at the beginning.",
        ) from None


def _one(given: str | Mapping[str, str] | Sequence[str]) -> str | dict[str, str]:
    assert not isinstance(given, list), "several texts are handled before"
    return given if isinstance(given, str) else dict(given)  # type: ignore[arg-type]  # a mapping, which is a sequence of keys to mypy
