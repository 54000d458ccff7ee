"""Very long input: the same text with as much behind it as the context takes."""

from collections.abc import Callable
from random import Random

NEUTRAL = " There is nothing more to say about this. The rest of this message adds no information."
"""Said again and again behind every second text; the others are repeated themselves."""
MAX_CHARACTERS = 20_000
"""Of the longest column; a context of a hundred thousand tokens for each row would cost hours."""


def lengthened(inputs: dict[str, str], random: Random, fits: Callable[[dict[str, str]], bool]) -> dict[str, str] | None:
    """The longest column's text, repeated or padded with neutral sentences as far as it fits; None where it has no room.

    Args:
        inputs: Column -> text.
        random: Decides which of both.
        fits: Whether inputs fit into the context; if some do, shorter ones do.
    """
    column = max(inputs, key=lambda name: len(inputs[name]))
    text = inputs[column]
    filler = random.choice((NEUTRAL, "\n" + text))

    def with_filler(times: int) -> dict[str, str]:
        return inputs | {column: text + filler * times}

    times = _most((MAX_CHARACTERS - len(text)) // len(filler), lambda times: fits(with_filler(times)))
    return with_filler(times) if times else None


def _most(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest number up to a limit that holds, by halving; 0: none."""
    low, high = 0, max(limit, 0)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
