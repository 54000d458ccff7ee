"""Account numbers: the registry's examples."""

import pytest

from softprompt.data.text.personal_data import find_personal_data

IBANS = [
    *(
        "DE89 3704 0044 0532 0130 00",
        "GB29NWBK60161331926819",
        "FR14 2004 1010 0505 0001 3M02 606",
        "NL91ABNA0417164300",
        "ES91 2100 0418 4502 0005 1332",
    ),
    *(
        "no9386011117947",
        "CH93 0076 2011 6238 5295 7",
        "IT60 X054 2811 1010 0000 0123 456",
        "AT61 1904 3002 3457 3201",
        "BE68 5390 0754 7034",
    ),
    *(
        "PL61 1090 1014 0000 0712 1981 2874",
        "MT84MALT011000012345MTLCAST001S",
        "SE45 5000 0000 0583 9825 7466",
        "IE29-AIBK-9311-5212-3456-78",
    ),
    *(
        "PT50 0002 0123 1234 5678 9015 4",
        "SA03 8000 0000 6080 1016 7519",
        "BR18 0036 0305 0000 1000 9795 493C 1",
        "DK50 0040 0440 1162 43",
    ),
]
NONE = [
    *(
        "DE89 3704 0044 0532 0130 01",
        "DE123456789",
        "DE89 3704 0044 0532 0130",
        "ZZ89 3704 0044 0532 0130 00",
        "GB29 NWBK 6016 1331 9268 1X",
        "AB12 34567890123",
    ),
    *(
        "DE89370400440532013000X",
        "XDE89370400440532013000",
        "order DE12345678901234567890",
        "GB 20 orders of 1000000000",
        "NL91ABNA041716430",
        "INV20240101123456789",
    ),
    *("me 12 to 1234567 and 1234567", "NO93", "IT60X0542811101000000123457"),
]


@pytest.mark.parametrize("frame", ["{}", "My IBAN is {} please", "iban:{}.", "({}), thanks", "from GB to {} today", "{}\nJane"])
@pytest.mark.parametrize("iban", IBANS)
def test_an_iban_is_found_whole(iban, frame):
    text = frame.format(iban)
    assert [(match.kind, text[match.start : match.end]) for match in find_personal_data(text)] == [("iban", iban)]


def test_what_looks_like_a_beginning_does_not_hide_the_next():
    text = "AB12 GB29 NWBK 6016 1331 9268 19"
    assert [match.start for match in find_personal_data(text)] == [5]


@pytest.mark.parametrize("text", NONE)
def test_a_wrong_digit_length_or_country_is_none(text):
    assert find_personal_data(text) == []
