"""Personal data in captions: what is one, what only looks so, and masks."""

import pytest

from diptych.collect.captions.personal import masked, personal_data


@pytest.mark.parametrize(
    "text",
    [
        "+49 30 1234567", "+1 (555) 123-4567", "0044 20 7946 0958", "(555) 123-4567", "555-123-4567", "555.123.4567",
        "06 12 34 56 78", "01.23.45.67.89", "8 (495) 123-45-67", "(11) 91234-5678", "020 7946 0958", "0171/1234567",
        "090-1234-5678", "138-1234-5678", "Call 5551234567", "Tel.: 12345678", "tél. 0612345678", "电话13812345678",
        "WhatsApp: +91 98765 43210", "+380 44 123 45 67", "+86 10 8888 8888", "(030) 1234-5678",
    ],
)  # fmt: skip
def test_telephone_numbers_of_many_countries(text: str) -> None:
    assert personal_data(f"Painted boat, {text}") == "telephone"
    assert "•••" in masked(text)
    assert sum(letter.isdigit() for letter in masked(text)) <= 1  # the 1 of +1 (555) may stay


@pytest.mark.parametrize(
    "text", ["a.b@example.org", "max [at] example.org", "max(at)example(dot)org", "x_y@mail.example.uk"]
)
def test_addresses_of_e_mail(text: str) -> None:
    assert personal_data(f"Painted boat, {text}") == "e-mail"
    assert masked(f"Boat, {text}.") == "Boat, •••."


@pytest.mark.parametrize(
    "text",
    [
        "Berlin 1945-1949", "12.03.2015", "2019-07-14 12:30", "ISBN 978-3-16-148410-0", "ISBN 0-19-852663-6",
        "Eiffel Tower 48.858370, 2.294481", "48°51'29.6\"N 2°17'40.2\"E", "1,000,000 tulips", "Boeing 747-400",
        "80 x 28 x 202 cm", "04-12-2015", "EAN 4006381333931", "16:9 1920x1080", "Route 66", "1914 1918 1939 1945",
        "party @ home. Great night", "dog looking at beach. The end", "NGC 4565", "5000 m, 2000 m and 10000 m",
        "@natgeo on the beach", "Lot 123456", "1/250 f/2.8 ISO 100", "Population 3 769 495",
    ],
)  # fmt: skip
def test_other_numbers_are_no_personal_data(text: str) -> None:
    assert personal_data(text) == ""
    assert masked(text) == text
