"""Payment card numbers: the issuers' published test numbers."""

import pytest

from softprompt.data.text.personal_data import find_personal_data

CARDS = [
    *(
        "4111 1111 1111 1111",
        "4111111111111111",
        "5555-5555-5555-4444",
        "378282246310005",
        "3782 822463 10005",
        "6011 1111 1111 1117",
    ),
    *(
        "3056 930902 5904",
        "30569309025904",
        "2223 0031 2200 3222",
        "3530 1113 3330 0000",
        "4111.1111.1111.1111",
        "6759649826438453",
    ),
    *(
        "5105105105105100",
        "6200000000000005",
        "4012888888881881",
        "4111\xa01111\xa01111\xa01111",
        "6011000990139424",
        "371449635398431",
    ),
]
NONE = [
    *(
        "4111 1111 1111 1112",
        "1234 5678 9012 3456",
        "0000000000000000",
        "EAN 4006381333931",
        "ISBN 978-3-16-148410-0",
        "IMEI 490154203237518",
    ),
    *(
        "order 12345678901234",
        "1699999999999",
        "9780262033848",
        "4444444444444444",
        "411111111111111",
        "411 1111 1111 1111 1",
        "A4111111111111111",
    ),
    *("4111111111111111B", "41 11 11 11 11 11 11 11", "4111 1111 1111", "51051051051051005", "4222222222222"),
]


def _found(text: str) -> list[tuple[str, str]]:
    return [(match.kind, text[match.start : match.end]) for match in find_personal_data(text)]


@pytest.mark.parametrize("frame", ["{}", "My card {} was charged", "card:{}.", "{} 12/26", "({})", "12 {}"])
@pytest.mark.parametrize("card", CARDS)
def test_a_card_is_found_whole(card, frame):
    assert _found(frame.format(card)) == [("card", card)]


@pytest.mark.parametrize("text", NONE)
def test_other_long_numbers_are_none(text):
    assert _found(text) == []


def test_thirteen_digits_are_a_card_only_where_the_words_say_so():
    assert _found("visa 4222222222222") == [("card", "4222222222222")]


def test_two_cards_in_a_row_are_both_found():
    assert len(_found("4111 1111 1111 1111 5555 5555 5555 4444")) == 2
