"""All personal data of a text, and masking it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.data.text.matches import Match
from softprompt.data.text.personal_data import find_personal_data, mask

PIECES = [
    *(
        "jane.doe@example.com",
        "+44 20 7946 0958",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        "536-90-4399",
        "93.184.216.34",
    ),
    *("RCCMNL83S18D969H", "AB 12 34 56 C", "2a00:1450:4001:82a::200e", "AB123456C national insurance"),
]
MASKED = {
    "Write to jane.doe@example.com": "Write to j…@…",
    "call +44 20 7946 0958 now": "call …58 now",
    "4111 1111 1111 1111": "…11",
    "DE89 3704 0044 0532 0130 00.": "…00.",
    "IT RCCMNL83S18D969H": "IT …",
    "AB 12 34 56 C": "…",
    "from 93.184.216.34": "from …34",
    "a@b.co, +1 202 555 0143": "a…@…, …43",
    "nothing here, order 582293": "nothing here, order 582293",
    "4111111111111111@example.com": "4…@…",
}
_pieces = st.one_of(st.sampled_from(PIECES), st.text("0123456789+-. @/()ab:", max_size=25), st.text(max_size=10))
_texts = st.lists(_pieces, max_size=6).map("".join)


@pytest.mark.parametrize(("text", "expected"), MASKED.items())
def test_little_remains(text, expected):
    assert mask(text) == expected


def test_matches_are_in_order_and_say_where():
    text = "+1 202 555 0143 or a@b.co"
    assert find_personal_data(text) == [Match("phone", 0, 15), Match("e_mail", 19, 25)]


def test_a_number_is_what_its_hardest_test_says():
    text = "Card 4111 1111 1111 1111, phone or SSN 536-90-4399"
    assert [match.kind for match in find_personal_data(text, "US")] == ["card", "national_id"]


def test_a_national_phone_is_masked_with_its_region():
    assert mask("Ring 020 7946 0958", "GB") == "Ring …58"
    assert mask("Ring 020 7946 0958") == "Ring 020 7946 0958"


def test_masking_goes_on_until_nothing_is_left():
    text = "My SSN, write to jane.with.a.very.long.name@mail.example.com: 536904399"
    assert len(find_personal_data(text)) == 1  # the word that names the number is too far away, until the address is short
    assert mask(text) == "My SSN, write to j…@…: …99"


@given(_texts, st.sampled_from(["", "GB", "US", "DE"]))
def test_a_masked_text_holds_none(text, region):
    masked = mask(text, region)
    assert find_personal_data(masked, region) == []
    assert mask(masked, region) == masked


@given(st.text(max_size=20), st.sampled_from(PIECES), st.text(max_size=20))
def test_a_piece_is_masked_among_anything(before, piece, after):
    assert piece not in mask(f"{before} . {piece} . {after}")


@given(_texts)
def test_matches_lie_in_the_text_and_none_inside_another(text):
    matches = find_personal_data(text)
    for match in matches:
        assert 0 <= match.start < match.end <= len(text)
    for left, right in pairwise(matches):
        assert left.start < right.start
        assert left.end < right.end
