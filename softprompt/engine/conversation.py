"""Conversations as text, by the base model's own chat template: the same for training rows and for requests."""

from collections.abc import Callable

from softprompt.base_model import TextSide
from softprompt.errors import UnsupportedBaseModel

RenderChat = Callable[[list[dict[str, str]]], str]
"""Messages so far (`role`, `content`) -> the text after which the assistant speaks."""


def chat_renderer(text_side: TextSide) -> RenderChat:
    """The base's chat template as a function of the messages before the assistant's answer.

    Raises:
        UnsupportedBaseModel: It has none.
    """
    tokenizer = text_side.tokenizer
    if not tokenizer.chat_template:
        raise UnsupportedBaseModel(
            "The base model has no chat template, so conversations cannot be rendered.",
            expected="a tokenizer with a chat_template",
            hint="Use a chat model, or a template of your own with one text.",
        )
    begin = tokenizer.bos_token or ""
    adds_begin = begin and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id

    def render(messages: list[dict[str, str]]) -> str:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        # The template writes the beginning token as text; the tokenizer would add a second one.
        return text.removeprefix(begin) if adds_begin else text

    return render
