"""Words around a text that say nothing about what it asks: greetings, thanks, quoting, signatures, references.

They are English. For another language, `paraphrases` takes a list of one's own.
"""

from random import Random

PREFIXES = (
    "Hi there, ",
    "Hello,\n\n",
    "Good morning! I hope you are well. ",
    "Dear Sir or Madam,\n",
    "Hope this is the right place to ask. ",
    "Fwd: ",
    "Re: Re: ",
    "> ",
    "On Monday someone wrote:\n> ",
    "[{reference}] ",
    "Message {reference}: ",
)
SUFFIXES = (
    " Thanks!",
    " Thank you very much in advance.",
    "\n\nBest regards,\nAlex",
    "\n\nKind regards\nSam Miller",
    "\n--\nSent from my phone",
    " :)",
    "\n\n(reference {reference})",
    " [ref {reference}]",
    "\n\nThis message may contain confidential information.",
)


def with_prefix(inputs: dict[str, str], random: Random) -> dict[str, str]:
    """Words in front of the first column's text."""
    column = next(iter(inputs))
    return inputs | {column: _drawn(PREFIXES, random) + inputs[column]}


def with_suffix(inputs: dict[str, str], random: Random) -> dict[str, str]:
    """Words behind the last column's text."""
    column = list(inputs)[-1]
    return inputs | {column: inputs[column] + _drawn(SUFFIXES, random)}


def _drawn(phrases: tuple[str, ...], random: Random) -> str:
    return random.choice(phrases).replace("{reference}", f"{random.choice('ABCDEFGH')}-{random.randrange(10_000, 100_000)}")
