"""What a page shows: pictures at their largest version, with the words near them, and its links."""

import pytest

from diptych.collect.pages.extraction import read_page
from diptych.collect.pairs import Found

URL = "http://site.org/folder/page.html"


def found(html: str, **headers: str) -> list[Found]:
    return list(read_page(html.encode(), URL, headers=headers).found)


def only(html: str) -> Found:
    [picture] = found(html)
    return picture


def words(html: str) -> list[tuple[str, str]]:
    return [(each.origin, each.text) for each in only(html).words]


def test_the_words_of_a_picture_come_from_the_nearest_to_the_farthest() -> None:
    html = """<html lang="en-GB"><body><h2>Animals</h2><p>They run.</p><figure>
    <a href="/more" title="See more"><img src="dog.jpg" alt="A  dog &amp; a ball" title="Rex"></a>
    <figcaption>Rex on <b>snow</b></figcaption></figure><p>Then they sleep.</p><p>Far away.</p>"""
    assert words(html) == [
        ("alt", "A dog & a ball"), ("figcaption", "Rex on snow"), ("title", "Rex"), ("title", "See more"),
        ("paragraph", "They run."), ("paragraph", "Then they sleep."), ("heading", "Animals"),
    ]  # fmt: skip
    assert only(html).language == "en-GB"
    assert only(html).page_url == URL


def test_a_paragraph_belongs_to_the_picture_beside_it() -> None:
    first, second = found("<p>One.</p><img src=1.jpg><img src=2.jpg><p>Two.</p>")
    assert [each.text for each in first.words] == ["One."]
    assert [each.text for each in second.words] == ["Two."]


def test_a_heading_ends_what_was_before_it() -> None:
    assert words("<p>Before.</p><h1>New</h1><img src=1.jpg><h1>Newer</h1><p>After.</p>") == [("heading", "New")]


def test_a_picture_in_a_paragraph_has_that_paragraph() -> None:
    assert words("<p>Before.</p><p>A <img src=1.jpg> dog.</p><p>After.</p>") == [("paragraph", "A dog.")]


@pytest.mark.parametrize(
    ("image", "address"),
    [('<img src="a.jpg">', "a.jpg"),
     ('<img src="a.jpg" srcset="b.jpg 200w, c.jpg 800w, d.jpg 400w">', "c.jpg"),
     ('<img src="a.jpg" srcset="b.jpg, c.jpg 2x, d.jpg 1.5x">', "c.jpg"),
     ('<img src="a.jpg" srcset="b,1.jpg 200w,c,w_9,2.jpg 800w">', "c,w_9,2.jpg"),
     ('<img src="a.jpg" srcset="b.jpg,">', "b.jpg"),
     ('<img src="data:image/gif;base64,R0" data-src="real.jpg">', "real.jpg"),
     ('<img src="blank.gif" data-src="real.jpg">', "real.jpg"),
     ('<img src="blank.gif" data-srcset="s.jpg 100w, l.jpg 900w" data-src="m.jpg" width="300">', "l.jpg"),
     ('<img src="s.jpg" data-orig-file="orig.jpg" srcset="l.jpg 900w">', "orig.jpg"),
     ('<picture><source type="image/webp" srcset="b.webp 900w"><source type="image/jxl" srcset="b.jxl 999w">'
      '<img src="a.jpg"></picture>', "b.webp"),
     ('<a href="full.JPG?x=1"><img src="thumbnail.jpg" width=90></a>', "full.JPG?x=1"),
     ('<a href="full.html"><img src="thumbnail.jpg"></a>', "thumbnail.jpg"),
     ('<amp-img src="a.jpg"></amp-img>', "a.jpg"),
     ('<noscript><img src="a.jpg"></noscript>', "a.jpg")],
)  # fmt: skip
def test_the_largest_version_is_taken(image: str, address: str) -> None:
    assert only(f"<body>{image}").picture_url == f"http://site.org/folder/{address}"


@pytest.mark.parametrize(
    "image",
    ["<img>", '<img src="">', '<img src="data:image/png;base64,AA">', '<img src="a.svg">', '<img src="a.gif" width=1>',
     '<img src="a.gif" height="2px">', '<img src="javascript:x()">', '<img src="http://[">', "<!-- <img src=a.jpg> -->",
     '<template><img src="a.jpg"></template>', '<script>"<img src=a.jpg>"</script>', '<img src="ftp://a/b.jpg">'],
)  # fmt: skip
def test_what_is_no_picture_is_left_out(image: str) -> None:
    assert found(f"<body>{image}") == []


def test_a_lazy_picture_and_its_copy_without_scripts_are_one() -> None:
    html = '<img src="blank.gif" data-src="a.jpg" alt="A dog"><noscript><img src="a.jpg" alt="A dog"></noscript>'
    assert words(html) == [("alt", "A dog")]


def test_schema_org_and_opengraph_describe() -> None:
    html = """<head><meta property="og:image" content="/og.jpg"><meta property="og:image:alt" content="A cat in a tree">
    <meta property="og:description" content="All about cats"><meta property="og:title" content="Cats">
    <script type="application/ld+json">{"@graph": [{"@type": "ImageObject", "contentUrl": "a.jpg",
    "caption": "A red car", "license": "https://example.org/by"}, {"@type": "Recipe", "name": "Soup",
    "image": ["b.jpg"]}]}</script><script type="application/ld+json">{broken</script></head>
    <body><img src="a.jpg" alt="Car">"""
    pictures = {each.picture_url.rpartition("/")[2]: each for each in found(html)}
    assert [(each.origin, each.text) for each in pictures["a.jpg"].words] == [
        ("alt", "Car"),
        ("schema.org", "A red car"),
    ]
    assert pictures["a.jpg"].licence == "https://example.org/by"
    assert [each.text for each in pictures["b.jpg"].words] == ["Soup"]
    assert [each.text for each in pictures["og.jpg"].words] == ["A cat in a tree", "All about cats", "Cats"]


def test_the_licence_of_a_page_is_that_of_its_pictures() -> None:
    assert (
        only('<img src=a.jpg><a rel="license" href="https://example.org/by">CC</a>').licence == "https://example.org/by"
    )


def test_links_are_followed_unless_somebody_minds() -> None:
    html = """<base href="/other/"><a href="b?PHPSESSID=1#top">b</a><a href="c" rel="nofollow">c</a>
    <a href="d.jpg">d</a><a href="mailto:x@y">e</a><a href="b">b</a>
    <area href="//site2.org/f"><link rel=next href="?page=2">
    <meta http-equiv="refresh" content="3; URL='g'">"""
    assert read_page(html.encode(), URL).links == (
        "http://site.org/other/b", "http://site2.org/f", "http://site.org/other/?page=2", "http://site.org/other/g",
    )  # fmt: skip
    assert read_page(b"<meta name=robots content=nofollow>" + html.encode(), URL).links == ()
    assert read_page(html.encode(), URL, headers={"X-Robots-Tag": "nofollow"}).links == ()


def test_a_reservation_leaves_nothing_of_a_page() -> None:
    page = read_page(b"<meta name=robots content=noai><img src=a.jpg alt=x><a href=b>", URL)
    assert page == ((), (), "noai", "")
    assert read_page(b"<img src=a.jpg>", URL, headers={"TDM-Reservation": "1"}).refusal == "tdm-reservation"


@pytest.mark.parametrize(
    ("content", "headers"),
    [("<img src=a.jpg alt='Zoë café'>".encode("latin-1"), {"content-type": "text/html; charset=ISO-8859-1"}),
     ("<meta charset=windows-1252><img src=a.jpg alt='Zoë café'>".encode("cp1252"), {}),
     ("\ufeff<img src=a.jpg alt='Zoë café'>".encode(), {"content-type": "text/html; charset=latin-1"}),
     ("<img src=a.jpg alt='Zoë café'>".encode(), {"content-type": "text/html; charset=nonsense"})],
)  # fmt: skip
def test_letters_survive_any_encoding(content: bytes, headers: dict[str, str]) -> None:
    assert read_page(content, URL, headers=headers).found[0].words[0].text == "Zoë café"


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 99, b"<", b"<img", b"\xff\xfe<", b"<div>" * 20_000 + b"<img src=a.jpg>"]
)
def test_a_broken_page_raises_nothing(content: bytes) -> None:
    read_page(content, URL)


def test_what_is_in_a_drawing_is_not_of_the_page() -> None:
    drawing = "<svg><a href=/1><svg><a href=/2></a></svg></a><foreignObject><img src=a.jpg></foreignObject></svg>"
    page = read_page(f"<body><a href=/0></a>{drawing}<a href=/3></a><img src=b.jpg>".encode(), URL)
    assert page.links == ("http://site.org/0", "http://site.org/3")
    assert [each.picture_url for each in page.found] == ["http://site.org/folder/b.jpg"]


def test_a_page_without_its_links_has_its_licence() -> None:
    page = read_page(b"<a href=/1>x</a><img src=b.jpg><a rel=license href=/free>y</a>", URL, with_links=False)
    assert (page.links, [each.licence for each in page.found]) == ((), ["http://site.org/free"])
