"""Numbers that a state gives a person, checked with python-stdnum.

A number stands by itself where its shape is distinctive and its check digits are strong. Otherwise it counts only near a word
that names it: nine bare digits are an order number, but not after `BSN`.
"""

import functools
import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from softprompt.data.text.matches import Match


@dataclass(frozen=True)
class NationalId:
    """One kind of number.

    Attributes:
        module: The module of `stdnum` that checks it; '' where the shape is all there is.
        shape: Regular expression of how people write it, letters in capitals.
        words: Regular expression of words that name it; '' for a number that stands by itself.
    """

    module: str
    shape: str
    words: str = ""


_NINO_LETTERS = r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"

NATIONAL_IDS = (
    NationalId("us.ssn", r"\d{3}-\d{2}-\d{4}"),
    NationalId("it.codicefiscale", r"[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]"),
    NationalId("es.nie", r"[XYZ]-?\d{7}-?[A-Z]"),
    NationalId("fr.nir", r"[123478] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}"),
    NationalId("be.nn", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}"),
    NationalId("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}"),
    NationalId("ch.ssn", r"756\.?\d{4}\.?\d{4}\.?\d{2}"),
    NationalId("se.personnummer", r"(?:19|20)?\d{6}[-+]\d{4}"),
    NationalId("fi.hetu", r"\d{6}[-+A]\d{3}[0-9A-FHJ-NPR-Y]"),
    NationalId("no.fodselsnummer", r"\d{6} \d{5}"),
    NationalId("pt.cc", r"\d{8} ?\d ?[A-Z]{2}\d"),
    NationalId("cz.rc", r"\d{6}/\d{4}"),
    NationalId("cn.ric", r"\d{17}[\dX]"),
    NationalId("kr.rrn", r"\d{6}-\d{7}"),
    NationalId("mx.curp", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[0-9A-Z]\d"),
    NationalId("", rf"{_NINO_LETTERS} \d\d \d\d \d\d [A-D]"),
    NationalId("", rf"{_NINO_LETTERS}\d{{6}}[A-D]", "national insurance|nino|ni number"),
    NationalId("us.ssn", r"\d{9}", "ssn|social security"),
    NationalId("gb.nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", "nhs"),
    NationalId("de.idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", r"steuer-?id\w*|steuernummer|idnr|steuerliche|tax id\w*|tin"),
    NationalId("es.dni", r"\d{8}-?[A-Z]", "dni|nif|documento"),
    NationalId("nl.bsn", r"\d{4}\.?\d{2}\.?\d{3}", r"bsn|burgerservice\w*|sofi-?nummer"),
    NationalId("pl.pesel", r"\d{11}", "pesel"),
    NationalId("br.cpf", r"\d{11}", "cpf"),
    NationalId("in_.aadhaar", r"\d{4}[ -]?\d{4}[ -]?\d{4}", "aadhaar|aadhar|adhaar|uidai"),
    NationalId("dk.cpr", r"\d{6}-?\d{4}", r"cpr\w*"),
    NationalId("ie.pps", r"\d{7}[A-W][A-IW]?", "pps|ppsn"),
    NationalId("at.vnr", r"\d{4} ?\d{6}", r"svnr|sozialversicherung\w*|versicherungsnummer"),
    NationalId("be.nn", r"\d{11}", r"rijksregister\w*|num[ée]ro national|registre national"),
    NationalId("se.personnummer", r"(?:19|20)?\d{10}", "personnummer"),
    NationalId("no.fodselsnummer", r"\d{11}", "personnummer|f[øo]dselsnummer"),
    NationalId("ca.sin", r"\d{3}[ -]?\d{3}[ -]?\d{3}", "social insurance|sin (?:number|no)"),
    NationalId("au.tfn", r"\d{3} ?\d{3} ?\d{3}", "tfn|tax file"),
    NationalId("tr.tckimlik", r"\d{11}", r"(?:t\.?c\.? ?)?kimlik\w*|tckn"),
    NationalId("ro.cnp", r"\d{13}", "cnp"),
    NationalId("za.idnr", r"\d{13}", "id number|identity number|rsa id"),
    NationalId("jp.in_", r"\d{4}[ -]?\d{4}[ -]?\d{4}", "my ?number|マイナンバー|個人番号"),
)

_START = re.compile(r"\b(?=[A-Za-z0-9])(?=(?:[A-Za-z]{0,6}[ ./+-]?[0-9]){6})(?<![0-9][-./ ])")
"""Where a number may begin: six digits at least follow, interrupted by no more than any shape allows."""

CONTEXT_CHARACTERS = 40
"""How far before or after the number the word that names it may stand."""


def national_ids(text: str, most_candidates: int | None = None) -> Iterator[Match]:
    """Numbers of the table.

    Args:
        text: Any text.
        most_candidates: Places where one may begin that are looked at; all when None.

    Yields:
        Each number; one that fits several shapes comes several times.
    """
    for start in islice(_START.finditer(text), most_candidates):
        if not _any_shape().match(text, start.start()):
            continue
        for kind in NATIONAL_IDS:
            number = _shape(kind).match(text, start.start())
            if number and _validator(kind.module)(number.group()) and _is_named(kind, number, text):
                yield Match("national_id", *number.span())


def _is_named(kind: NationalId, number: re.Match[str], text: str) -> bool:
    around = text[max(0, number.start() - CONTEXT_CHARACTERS) : number.end() + CONTEXT_CHARACTERS]
    return not kind.words or _words(kind.words).search(around) is not None


@functools.cache
def _words(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])", re.IGNORECASE)


@functools.cache
def _shape(kind: NationalId) -> re.Pattern[str]:
    # No digit may follow after a separator either: 12 digits in fours are not the beginning of a card number.
    return re.compile(rf"(?:{kind.shape})(?![A-Za-z0-9]|[-./ ]\d)", re.IGNORECASE | re.ASCII)


@functools.cache
def _any_shape() -> re.Pattern[str]:
    """All shapes at once: one look instead of forty at most numbers, which are none of these."""
    return re.compile("|".join(f"(?:{_shape(kind).pattern})" for kind in NATIONAL_IDS), re.IGNORECASE | re.ASCII)


@functools.cache
def _validator(module: str) -> Callable[[str], bool]:
    if not module:
        return lambda number: True
    is_valid: Callable[[str], bool] = importlib.import_module(f"stdnum.{module}").is_valid
    return is_valid
