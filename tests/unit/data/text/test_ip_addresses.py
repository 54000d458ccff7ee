"""Internet addresses."""

import pytest

from softprompt.data.text.personal_data import find_personal_data

PUBLIC = ["93.184.216.34", "81.2.69.142", "185.199.108.153", "2606:2800:220:1:248:1893:25c8:1946", "2a00:1450:4001:82a::200e"]
NONE = [
    *(
        "version 10.0.190.1234",
        "1.2.3.4",
        "8.8.8.8",
        "8.8.8.8 or 8.8.4.4",
        "192.168.178.123",
        "10.11.12.13",
        "127.0.0.1",
        "999.184.216.34",
        "93.184.216.34.5",
    ),
    *(
        "firmware 93.184.216.34",
        "v93.184.216.34",
        "12:30:45",
        "fe80::1234:5678:9abc",
        "2001:db8::1234:5678",
        "from 12.10.20 to 13.10.20",
        "2024:12:31",
    ),
]


@pytest.mark.parametrize("frame", ["{}", "I logged in from {}.", "ip={}, thanks", "({})"])
@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_found_whole(address, frame):
    text = frame.format(address)
    assert [(match.kind, text[match.start : match.end]) for match in find_personal_data(text)] == [("ip_address", address)]


@pytest.mark.parametrize("text", NONE)
def test_private_addresses_versions_and_times_are_none(text):
    assert find_personal_data(text) == []
