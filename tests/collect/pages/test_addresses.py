"""What addresses of pages have in common."""

from diptych.collect.pages.addresses import is_endless, key_of, shape_of


def test_the_order_of_parameters_does_not_matter() -> None:
    assert key_of("http://a/?x=1&y=2") == key_of("http://a/?y=2&x=1") != key_of("http://a/?y=1&x=2")
    assert key_of("http://a/x") != key_of("https://a/x")


def test_calendars_have_one_shape() -> None:
    assert shape_of("http://a/2026/01?day=3") == shape_of("http://a/1999/12?day=31")
    assert shape_of("http://a/s/0123abcd9/x") == shape_of("http://a/s/ffff00001/x")
    assert shape_of("http://a/photo/dog") != shape_of("http://a/photo/cat")


def test_a_path_that_repeats_itself_is_endless() -> None:
    assert is_endless("http://a/b/c/b/c/b/c/b/c")
    assert not is_endless("http://a/1/1/1/1/1/b/b/b")
