from pathlib import Path

import pytest

from diptych.collect.addresses import normalized
from diptych.collect.host_names import ascii_host
from diptych.collect.output.forgotten import Forgotten


@pytest.mark.parametrize(
    ("host", "ascii_form"),
    [
        ("Example.ORG", "example.org"), ("ex_ample.org", "ex_ample.org"), ("Müller.de", "xn--mller-kva.de"),
        ("faß.de", "xn--fa-hia.de"), ("xn--fa-hia.de", "xn--fa-hia.de"), ("日本.jp", "xn--wgv71a.jp"),
        ("☃.net", "xn--n3h.net"),
    ],
)  # fmt: skip
def test_hosts_have_the_names_that_browsers_ask_for(host: str, ascii_form: str) -> None:
    assert ascii_host(host) == ascii_form
    assert normalized(f"https://{host}/a.jpg") == f"https://{ascii_form}/a.jpg"


def test_a_name_with_an_empty_label_is_none() -> None:
    with pytest.raises(UnicodeError):
        ascii_host("ä..de")


def test_another_owner_s_domain_is_not_forgotten_with_it(tmp_path: Path) -> None:
    forgotten = Forgotten(tmp_path)
    forgotten.remember([("domain", "faß.de")])
    assert forgotten.covers(url="https://xn--fa-hia.de/a.jpg")
    assert not forgotten.covers(url="https://fass.de/a.jpg")
