"""What a row's text gives away by itself: the flags that were set when it was measured, told with an example of each."""

from collections.abc import Iterator

import numpy as np

from softprompt.data.examined import Examined, Found, rows_that
from softprompt.data.rows import Row
from softprompt.data.text.flags import PERSONAL_DATA, TextFlag, explain

CHECKS: dict[str, tuple[TextFlag, tuple[str, str], str]] = {
    "odd_characters": (
        TextFlag.ODD_CHARACTERS | TextFlag.BLANK,
        ("holds", "hold"),
        "control, invisible or replacement characters. Clean them.",
    ),
    "mojibake": (TextFlag.MOJIBAKE, ("was", "were"), "read with the wrong encoding once. Read their source again as what it is."),
    "mixed_scripts": (TextFlag.MIXED_SCRIPT, ("has", "have"), "words of letters from several scripts that look alike."),
    "personal_data": (PERSONAL_DATA, ("holds", "hold"), "what looks like personal data. Mask or remove it before it is learned."),
    "instructions": (
        TextFlag.INSTRUCTION,
        ("looks", "look"),
        "like attempts to instruct the model. Read them; keep none that is not real.",
    ),
}


def check_texts(data: Examined, check: str) -> Iterator[Found]:
    """Rows with one of the flags of a check."""
    wanted, verbs, what = CHECKS[check]
    rows = data.rows_of()
    flagged = rows[(data.measures.flags[rows] & np.uint32(wanted)) != 0]
    if not len(flagged):
        return
    flags = data.measures.flags
    message = f"{rows_that(len(flagged), *verbs)} {what}"
    yield Found(check, message, flagged, lambda place, row: _explained(row, wanted, int(flags[place])))


def _explained(row: Row, wanted: TextFlag, flags: int) -> str:
    """Each flag once, by the first text that has it."""
    texts = (*row.inputs.values(), row.target)
    said = (next(filter(None, (explain(text, flag) for text in texts)), "") for flag in TextFlag if flag & wanted & flags)
    return ", ".join(filter(None, said))
