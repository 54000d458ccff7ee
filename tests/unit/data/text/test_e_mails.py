"""E-mail addresses."""

import pytest

from softprompt.data.text.personal_data import find_personal_data

ADDRESSES = [
    "jane.doe@example.com",
    "a@b.co",
    "J.Doe+tag@mail.example.co.uk",
    "o'neil@example.org",
    "müller@bücher.de",
    "me@xn--bcher-kva.example",
    "x_y-z@a-b.museum",
    "jane@EXAMPLE.COM",
    "1234@example.com",
    "a.b.c.d.e@f.g.h.example.net",
    "jane%x@example.com",
    "jane=x@example.com",
    "иван@пример.рф",
    "jane@123.com",
    "用户@例子.公司",
]
FRAMES = [
    "{}",
    "Write to {} please",
    "<{}>",
    "({})",
    "Mail:{}!",
    "{}.",
    "to {}, {} and me",
    "„{}“",
    "'{}'",
    "see ...{}",
    "mailto:{}?subject=x",
]
NONE = [
    "@handle",
    "me@home",
    "user@host",
    "price@3.50",
    "@",
    "@@",
    "a@",
    "@b.co",
    "a @ b.co",
    "a@b",
    "a@.com",
    "me@1.2",
    "twitter @jane.doe",
    "10@2.5%",
    "a@b@c",
    "pkg@version.rc1",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("frame", FRAMES)
def test_an_address_is_found_whole(address, frame):
    text = frame.format(address, address)
    assert [(match.kind, text[match.start : match.end]) for match in find_personal_data(text)] == [
        ("e_mail", address)
    ] * frame.count("{}")


@pytest.mark.parametrize("text", NONE)
def test_an_at_sign_alone_is_no_address(text):
    assert find_personal_data(text) == []
