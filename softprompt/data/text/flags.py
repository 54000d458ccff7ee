"""Everything about a text in one bit mask, at the price of a few microseconds for an ordinary text."""

from enum import IntFlag

from softprompt.data.text.characters import odd_characters, whitespace_only
from softprompt.data.text.instructions import find_instruction
from softprompt.data.text.matches import Kind
from softprompt.data.text.mojibake import mojibake
from softprompt.data.text.personal_data import find_personal_data, mask, may_hold_personal_data
from softprompt.data.text.scripts import scripts_mixed

MOST_CANDIDATES = 100
"""Pieces of a text that each kind of personal data is looked for in: even a text made to be slow takes under 0.1 s."""


class TextFlag(IntFlag):
    """What is in a text."""

    ODD_CHARACTERS = 1
    MOJIBAKE = 2
    BLANK = 4
    MIXED_SCRIPT = 8
    INSTRUCTION = 16
    E_MAIL = 32
    PHONE = 64
    CARD = 128
    IBAN = 256
    NATIONAL_ID = 512
    IP_ADDRESS = 1024


PERSONAL_DATA = TextFlag.E_MAIL | TextFlag.PHONE | TextFlag.CARD | TextFlag.IBAN | TextFlag.NATIONAL_ID | TextFlag.IP_ADDRESS
"""All kinds of personal data."""

_KIND_FLAGS: dict[Kind, TextFlag] = {
    "e_mail": TextFlag.E_MAIL,
    "phone": TextFlag.PHONE,
    "card": TextFlag.CARD,
    "iban": TextFlag.IBAN,
    "national_id": TextFlag.NATIONAL_ID,
    "ip_address": TextFlag.IP_ADDRESS,
}
_KIND_NAMES: dict[Kind, str] = {
    "e_mail": "an e-mail address",
    "phone": "a phone number",
    "card": "a card number",
    "iban": "an IBAN",
    "national_id": "a national identity number",
    "ip_address": "an IP address",
}


def text_flags(text: str, region: str = "") -> int:
    """What is in a text.

    Args:
        text: Any text.
        region: ISO 3166 code of the people who wrote it, to find national phone numbers too.

    Returns:
        Bits of `TextFlag`; 0 for an ordinary text.
    """
    flags = 0
    # `isprintable` is the quickest no to control characters and to an empty look.
    if not (text.isascii() and text.isprintable()) or not text or text.isspace():
        flags |= _character_flags(text)
    if may_hold_personal_data(text):
        for match in find_personal_data(text, region, MOST_CANDIDATES):
            flags |= _KIND_FLAGS[match.kind]
    if find_instruction(text):
        flags |= TextFlag.INSTRUCTION
    return int(flags)


def explain(text: str, flag: TextFlag, region: str = "") -> str:
    """What a flag is about, for a report.

    Args:
        text: The text.
        flag: One flag.
        region: As for `text_flags`.

    Returns:
        A piece of a sentence, for example `an e-mail address (j…@…)`, with personal data masked; '' if the text lacks the flag.
    """
    if flag in PERSONAL_DATA:
        return _explain_personal_data(text, flag, region)
    if flag == TextFlag.BLANK:
        return "nothing that can be seen" if whitespace_only(text) else ""
    describe = {
        TextFlag.ODD_CHARACTERS: odd_characters,
        TextFlag.MOJIBAKE: mojibake,
        TextFlag.MIXED_SCRIPT: scripts_mixed,
        TextFlag.INSTRUCTION: find_instruction,
    }[flag]
    found = mask(describe(text), region)
    return f"“{found}”" if found and flag == TextFlag.INSTRUCTION else found


def _character_flags(text: str) -> int:
    flags = 0
    if odd_characters(text):
        flags |= TextFlag.ODD_CHARACTERS
    if mojibake(text):
        flags |= TextFlag.MOJIBAKE
    if scripts_mixed(text):
        flags |= TextFlag.MIXED_SCRIPT
    if whitespace_only(text):
        flags |= TextFlag.BLANK
    return flags


def _explain_personal_data(text: str, flag: TextFlag, region: str) -> str:
    for match in find_personal_data(text, region, MOST_CANDIDATES):
        if _KIND_FLAGS[match.kind] == flag:
            return f"{_KIND_NAMES[match.kind]} ({mask(text[match.start : match.end], region)})"
    return ""
