"""Logarithms of probabilities in OpenAI's two forms. A label counts as one token, and the other labels are its alternatives."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from softprompt.serving.jobs import NewToken
from softprompt.serving.text import REPLACEMENT
from softprompt.serving.writing import LEAST_LOGPROB, LabelToken

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def completion_logprobs(
    tokenizer: "PreTrainedTokenizerFast", tokens: Sequence[NewToken | LabelToken], offset: int
) -> tuple[dict[str, Any], int]:
    """The form of completions.

    Args:
        tokenizer: The base's.
        tokens: Of an answer, or of a piece of it.
        offset: Characters of the tokens before.

    Returns:
        The form, and the offset behind these tokens.
    """
    texts, offsets = [], []
    for token in tokens:
        texts.append(_text(tokenizer, token))
        offsets.append(offset)
        offset += len(texts[-1])
    found = {
        "tokens": texts,
        "token_logprobs": [_finite(token.logprob) for token in tokens],
        "top_logprobs": [dict(_alternatives(tokenizer, token)) for token in tokens],
        "text_offset": offsets,
    }
    return found, offset


def chat_logprobs(tokenizer: "PreTrainedTokenizerFast", tokens: Sequence[NewToken | LabelToken]) -> dict[str, Any]:
    """The form of chat completions."""
    content = [
        _entry(_text(tokenizer, token), token.logprob)
        | {"top_logprobs": [_entry(*alternative) for alternative in _alternatives(tokenizer, token)]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _entry(text: str, logprob: float) -> dict[str, Any]:
    """`bytes` is null for a token that is only a part of a character."""
    return {"token": text, "logprob": _finite(logprob), "bytes": None if REPLACEMENT in text else list(text.encode())}


def _text(tokenizer: "PreTrainedTokenizerFast", token: NewToken | LabelToken) -> str:
    return token.text if isinstance(token, LabelToken) else str(tokenizer.decode([token.token_id]))


def _alternatives(tokenizer: "PreTrainedTokenizerFast", token: NewToken | LabelToken) -> list[tuple[str, float]]:
    if isinstance(token, LabelToken):
        return [(text, _finite(logprob)) for text, logprob in token.most_likely]
    return [(str(tokenizer.decode([token_id])), _finite(logprob)) for token_id, logprob in token.most_likely]


def _finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)
