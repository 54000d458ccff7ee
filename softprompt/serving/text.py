"""Tokens to text while they come: never half a character, an end at a stop string, no white space around an answer.

`AnswerText` is what an answer goes through: tokens become pieces of text, a stop string ends them, and the pieces together are
what `engine.predictor` gives for the same tokens.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

REPLACEMENT = "\ufffd"
"""What a decoder says for bytes that are no character, among them the first bytes of one that is not whole yet."""


class Detokeniser:
    """Decodes one answer token by token; what it gave out is never taken back.

    Some tokenizers write a token otherwise at the beginning of a text (SentencePiece drops a space there), so a token is decoded
    behind the ones before it and what these alone give is cut off. The window moves on wherever characters end.

    Args:
        tokenizer: The base's.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerFast") -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._behind = self._read = 0  # the window: tokens from `_behind` on are decoded, those before `_read` only as context
        self._given = 0  # characters of the tokens from `_read` on that were given out

    def push(self, token_id: int) -> str:
        """The characters that are whole now."""
        self._ids.append(token_id)
        text = self._pending()
        whole = text.rstrip(REPLACEMENT)
        piece, self._given = whole[self._given :], max(self._given, len(whole))
        if whole == text and text:
            self._behind, self._read, self._given = self._read, len(self._ids), 0
        return piece

    def finish(self) -> str:
        """What is left, bytes that never became a character included."""
        return self._pending()[self._given :]

    def _pending(self) -> str:
        context = self._decode(self._ids[self._behind : self._read])
        return self._decode(self._ids[self._behind :])[len(context) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)) if ids else ""


class StopStrings:
    """Ends a text before the first stop string, wherever the pieces are cut.

    Args:
        strings: None of them empty.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings, self._held = tuple(strings), ""
        self.found = False

    def push(self, piece: str) -> str:
        """The text that cannot become part of a stop string any more; sets `found` at the first one."""
        text = self._held + piece
        places = [place for place in (text.find(string) for string in self._strings) if place >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        keep = max((_overlap(text, string) for string in self._strings), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return held


class AnswerText:
    """One answer's text, piece by piece.

    Args:
        tokenizer: The base's.
        stop: Strings that end it; they are not part of it.
        strip: Without the white space around it, as answers are evaluated; the bare base's continuation keeps its own.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", stop: Sequence[str] = (), *, strip: bool = True) -> None:
        self._detokeniser, self._stop, self._strip = Detokeniser(tokenizer), StopStrings(stop), strip
        self._space, self._begun = "", False

    @property
    def stopped(self) -> bool:
        """Whether a stop string came."""
        return self._stop.found

    def push(self, token_id: int) -> str:
        """The text that is certain now; empty once `stopped`."""
        return "" if self.stopped else self._trim(self._stop.push(self._detokeniser.push(token_id)))

    def finish(self) -> str:
        """The rest, once no token comes any more."""
        if self.stopped:
            return ""
        piece = self._stop.push(self._detokeniser.finish())
        return self._trim(piece + ("" if self.stopped else self._stop.finish()))

    def _trim(self, piece: str) -> str:
        """Hold white space back until something follows it; drop it where nothing stood before."""
        if not self._strip:
            return piece
        text = self._space + piece if self._begun else piece.lstrip()
        kept = text.rstrip()
        self._space, self._begun = text[len(kept) :] if self._begun or kept else "", self._begun or bool(kept)
        return kept


def _overlap(text: str, string: str) -> int:
    """Length of the longest end of `text` with which `string` begins, but for the whole string."""
    return next((size for size in range(min(len(string) - 1, len(text)), 0, -1) if string.startswith(text[-size:])), 0)
