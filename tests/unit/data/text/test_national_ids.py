"""National identity numbers: the examples of python-stdnum's documentation."""

import pytest

from softprompt.data.text.national_ids import NATIONAL_IDS
from softprompt.data.text.personal_data import find_personal_data

ALONE = [
    *(
        "536-90-4399",
        "RCCMNL83S18D969H",
        "rccmnl83s18d969h",
        "x-2482300w",
        "2 95 10 99 126 111 93",
        "295109912611193",
        "85.07.30-033.28",
        "390.533.447-05",
    ),
    *(
        "756.9217.0769.85",
        "7569217076985",
        "880320-0016",
        "131052-308T",
        "151086 95088",
        "00000000 0 ZZ4",
        "710319/2745",
        "360426199101010071",
    ),
    *("971013-9019902", "BOXW310820HNERXN09", "AB 12 34 56 C"),
]
NAMED = [
    ("national insurance number", "AB123456C"),
    ("SSN", "536904399"),
    ("NHS", "943 476 5870"),
    ("Steuer-ID", "36 574 261 809"),
    ("DNI", "54362315K"),
    ("BSN", "111222333"),
    ("PESEL", "44051401359"),
    ("CPF", "39053344705"),
    ("Aadhaar", "2341 2341 2346"),
    ("CPR", "211062-5629"),
    ("PPS", "6433435F"),
    ("SVNR", "1237 010180"),
    ("Rijksregisternummer", "85073003328"),
    ("personnummer", "8803200016"),
    ("fødselsnummer", "15108695088"),
    ("SIN number", "123-456-782"),
    ("TFN", "123 456 782"),
    ("TC kimlik", "17291716060"),
    ("CNP", "1630615123457"),
    ("ID number", "7503305044089"),
    ("My Number", "6214 9832 0257"),
]
NONE = [
    *(
        "666-00-0000",
        "123-45-67890",
        "RCCMNL83S18D969X",
        "x-2482300a",
        "295109912611199",
        "85.07.30-033.29",
        "390.533.447-06",
        "756.9217.0769.84",
    ),
    *(
        "880320-0018",
        "131052-308U",
        "151086 95077",
        "710319/2746",
        "360426199101010072",
        "971013-9019903",
        "BOXW310820HNERXN08",
        "BG 12 34 56 C",
    ),
    *(
        "SSN 666000000",
        "BSN 111252333",
        "PESEL 44051401358",
        "NHS 943 476 5871",
        "order 536904399",
        "12-12-2024",
        "12.12.2024-31.12.2024",
    ),
    *("AB 12 34 56 E", "A536-90-4399", "536-90-4399-1", "absn 111222333"),
]


def _found(text: str) -> list[tuple[str, str]]:
    return [(match.kind, text[match.start : match.end]) for match in find_personal_data(text)]


@pytest.mark.parametrize("frame", ["{}", "It is {} I think", "({})", "id: {}.", "{}, thanks"])
@pytest.mark.parametrize("number", ALONE)
def test_a_distinctive_number_stands_by_itself(number, frame):
    assert _found(frame.format(number)) == [("national_id", number)]


@pytest.mark.parametrize(("word", "number"), NAMED)
def test_other_numbers_count_near_a_word_that_names_them(word, number):
    assert _found(f"My {word} is {number}.") == [("national_id", number)]
    assert _found(f"{number} is my {word.upper()}") == [("national_id", number)]
    assert _found(f"My order is {number}.") == []
    assert _found(f"My {word} is long. {'Please help me. ' * 4} Order {number}") == []


@pytest.mark.parametrize("text", NONE)
def test_a_wrong_check_digit_or_shape_is_none(text):
    assert _found(text) == []


@pytest.mark.parametrize("kind", NATIONAL_IDS, ids=lambda kind: f"{kind.module} {kind.shape}")
def test_each_kind_is_shown_by_an_example(kind):
    from softprompt.data.text import national_ids

    shape, validate = national_ids._shape(kind), national_ids._validator(kind.module)
    numbers = [number for word, number in NAMED if national_ids._words(kind.words).search(word)] if kind.words else ALONE
    assert any(shape.fullmatch(number) and validate(number) for number in numbers)
