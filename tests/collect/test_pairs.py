from diptych.collect.pairs import Words


def test_words_are_repaired_and_spaced() -> None:
    assert Words.of("  A caf&eacute;\n at\tnight ", "alt") == ("A café at night", "alt")
    assert Words.of("A cafÃ© at night", "alt").text == "A café at night"
