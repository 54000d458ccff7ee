"""Phone numbers."""

import pytest

from softprompt.data.text.personal_data import find_personal_data

INTERNATIONAL = [
    *(
        "+1 202 555 0143",
        "+44 20 7946 0958",
        "+49 30 901820",
        "+49 (0)30 901820",
        "(+33) 1 42 68 53 00",
        "0044 20 7946 0958",
        "0049 30 901820",
    ),
    *(
        "+442079460958",
        "+1-202-555-0143",
        "+1 (202) 555-0143",
        "＋44 20 7946 0958",
        "+91 98765 43210",
        "+39 06 6982",
        "+34 912 345 678",
    ),
    *("+31 20 624 1111", "+81 3-3580-3311", "+٤٤ ٢٠ ٧٩٤٦ ٠٩٥٨", "0033142685300"),
]
NATIONAL = [
    ("020 7946 0958", "GB"),
    ("07911 123456", "GB"),
    ("07911123456", "GB"),
    ("(202) 555-0143", "US"),
    ("202-555-0143", "US"),
    ("202.555.0143", "US"),
    ("030 901820", "DE"),
    ("030/901820", "DE"),
    ("0171 1234567", "DE"),
    ("01 42 68 53 00", "FR"),
    ("01.42.68.53.00", "FR"),
    ("912 345 678", "ES"),
    ("020 624 1111", "NL"),
    ("98765 43210", "IN"),
    ("03-3580-3311", "JP"),
]
NONE = [
    *(
        "Order 582293",
        "Order 5822931234",
        "order number 12345678901234",
        "2024-01-01 00:00:00",
        "from 01.02.2024 to 28.02.2024",
        "+1 555",
        "1+2=3",
    ),
    *(
        "€ 1.234.567,89",
        "$1,234,567.89",
        "tracking 1Z999AA10123456784",
        "1699999999999",
        "10 20 30 40 50 60 70",
        "+12345",
        "100 000 000",
    ),
    *("-442079460958", "x+442079460958", "0.00123456789"),
]
NO_NATIONAL = [
    ("2025550143", "US"),
    ("Order 2025550143", "US"),
    ("order 202-555-0143", "US"),
    ("2024-01-01", "US"),
    ("account 020 7946 0958", "GB"),
    ("01.02.2024 12:00", "DE"),
    ("€ 1.234.567", "DE"),
    ("1.234.567,00 €", "DE"),
    ("order 07911123456", "GB"),
    ("12/03/2024", "FR"),
    ("01/02/2024 03/04/2024", "FR"),
    ("#030 901820", "DE"),
    ("Bestellung 030901820", "DE"),
    ("1 000 000", "FR"),
    ("2019-2020", "GB"),
    ("Rechnung 0171 1234567", "DE"),
    ("Order 582293", "GB"),
    ("-020 7946 0958", "GB"),
]


def _found(text: str, region: str = "") -> list[tuple[str, str]]:
    return [(match.kind, text[match.start : match.end]) for match in find_personal_data(text, region)]


@pytest.mark.parametrize("frame", ["{}", "Call {} now.", "my number ({})", "tel:{}", "{}, please", "Ring me at\n{}\nJane"])
@pytest.mark.parametrize("number", INTERNATIONAL)
def test_an_international_number_is_found_whole(number, frame):
    [(kind, piece)] = _found(frame.format(number))
    assert kind == "phone"
    assert piece.strip("()") == number.strip("()") or piece in number


@pytest.mark.parametrize("text", NONE)
def test_other_numbers_are_none(text):
    assert _found(text) == []


@pytest.mark.parametrize(("number", "region"), NATIONAL)
def test_a_national_number_is_found_with_its_region_only(number, region):
    assert _found(f"Please reach me: {number}.", region) == [("phone", number)]
    assert _found(f"Please reach me: {number}.") == []


@pytest.mark.parametrize(("text", "region"), NO_NATIONAL)
def test_order_numbers_dates_and_amounts_are_none_in_any_region(text, region):
    assert _found(text, region) == []


def test_a_word_before_tells_a_bare_number():
    assert _found("phone 2025550143", "US") == [("phone", "2025550143")]
