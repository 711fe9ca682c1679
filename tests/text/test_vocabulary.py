"""A smaller vocabulary keeps what the texts need: their words, their characters, and the marks around them."""

import json
from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, normalizers, pre_tokenizers, processors

from diptych.errors import ArgumentError, TokenizerError
from diptych.text.tokenizer import Tokenizer
from diptych.text.vocabulary import SmallerVocabulary, smaller_vocabulary

MARKS = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?é日"
WORDS = ["the", "dog", "dogs", "elephant", "ele", "##pha", "##phant", "##nt", "##s", "##日", "zebra", "ze", "##bra"]
COUNTS = {"the dog!": 9, "the dogs": 5, "elephant": 4, "zebra": 1, "é日日": 2}


def wordpiece(*, words: list[str] = WORDS, template: bool = True) -> str:
    pieces = dict.fromkeys([*MARKS, *LETTERS, *(f"##{letter}" for letter in LETTERS if letter not in ".,!?日"), *words])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    made = Library(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    made.add_special_tokens([mark for mark in MARKS if "unused" not in mark])
    made.normalizer = normalizers.BertNormalizer(strip_accents=False, handle_chinese_chars=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ids = [(mark, vocabulary[mark]) for mark in ("[CLS]", "[SEP]")]
    made.post_processor = (
        processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
        if template
        else processors.Sequence([processors.BertProcessing(ids[1], ids[0])])
    )
    made.enable_padding(pad_id=0)
    return made.to_str()


def names(text: str) -> list[str]:
    return list(json.loads(text)["model"]["vocab"])


def rows(text: str, sentences: list[str]) -> list[list[int]]:
    read = Tokenizer.from_json(text)
    return [read([sentence]).ids[0].tolist() for sentence in sentences]


def assert_same(made: SmallerVocabulary, whole: str, sentences: list[str]) -> None:
    """The sentences' ids stand for the tokens that they had."""
    for new, former in zip(rows(made.tokenizer_json, sentences), rows(whole, sentences), strict=True):
        assert made.ids[new].tolist() == former


@pytest.mark.parametrize("template", [True, False])
def test_texts_whose_pieces_are_kept_keep_their_rows(template: bool) -> None:
    whole = wordpiece(template=template)
    made = smaller_vocabulary(whole, COUNTS, 200)
    assert_same(made, whole, [*COUNTS, "the dog, the zebra?", "[SEP] x"])
    kept = names(made.tokenizer_json)
    assert kept == [name for name in names(whole) if name in kept]  # in order
    assert made.ids.tolist() == [names(whole).index(name) for name in kept]
    assert kept[0] == "[PAD]"
    assert not {"[unused0]", "##bra"} & set(kept)


def test_the_most_used_stay_and_others_are_split() -> None:
    whole = wordpiece()
    small = len(smaller_vocabulary(whole, COUNTS, 200).ids) - 1
    made = smaller_vocabulary(whole, COUNTS, small)
    assert len(made.ids) <= small
    kept = set(names(made.tokenizer_json))
    assert {"the", "dog", "dogs", "elephant"} <= kept
    assert "zebra" not in kept
    assert_same(made, whole, ["the dogs", "elephant"])
    read = Library.from_str(made.tokenizer_json)
    assert "[UNK]" not in read.encode("zebra").tokens


def test_parts_of_words_that_are_split_count_as_used() -> None:
    """A part that no text uses is worth more than a word when the words that have it are left out."""
    words = [f"un{letter}{letter}" for letter in "abcdefgh"]
    whole = wordpiece(words=["often", *words, "un"])
    counts = dict.fromkeys(words, 3) | {"often": 99}
    needed = len(smaller_vocabulary(whole, {"often": 1}, 200).ids)
    kept = names(smaller_vocabulary(whole, counts, needed + 2).tokenizer_json)
    assert {"un", "often"} <= set(kept)


def test_no_word_becomes_unknown() -> None:
    """日 is a piece inside of a word in one form alone, so the word that needs it whole is kept."""
    whole = wordpiece(words=["ab日", "cd日"])
    made = smaller_vocabulary(whole, Counter({"ab日": 1, "a b c d 日": 50}), 200)
    fewest = len(made.ids)
    made = smaller_vocabulary(whole, Counter({"ab日": 1, "cd": 2, "a b c d 日": 50}), fewest)
    assert_same(made, whole, ["ab日"])
    with pytest.raises(ArgumentError, match=rf"size is {fewest - 1}; these texts need {fewest} tokens or more"):
        smaller_vocabulary(whole, Counter({"ab日": 1, "a b c d 日": 50}), fewest - 1)


def test_padding_and_marks_have_their_new_ids() -> None:
    made = smaller_vocabulary(wordpiece(), COUNTS, 200)
    content = json.loads(made.tokenizer_json)
    vocabulary = content["model"]["vocab"]
    assert {each["content"]: each["id"] for each in content["added_tokens"]} == {
        mark: vocabulary[mark] for mark in MARKS if "unused" not in mark
    }
    assert content["padding"]["pad_id"] == vocabulary["[PAD]"]
    ids = rows(made.tokenizer_json, ["dog"])[0]
    assert (ids[0], ids[-1]) == (vocabulary["[CLS]"], vocabulary["[SEP]"])


def test_ids_are_an_array_that_selects_rows() -> None:
    made = smaller_vocabulary(wordpiece(), COUNTS, 200)
    table = np.arange(len(names(wordpiece())))[:, None]
    assert table[made.ids].shape == (len(made.ids), 1)


def test_another_kind_is_refused() -> None:
    other = Tokenizer.train(["a cat", "a dog"], vocab_size=520).to_json()
    with pytest.raises(TokenizerError, match="of the kind 'BPE'; only WordPiece vocabularies are made smaller"):
        smaller_vocabulary(other, COUNTS, 100)
    with pytest.raises(TokenizerError, match="this is no tokenizer"):
        smaller_vocabulary("{}", COUNTS, 100)


def test_added_tokens_beside_the_vocabulary_are_refused() -> None:
    made = Library.from_str(wordpiece())
    made.add_tokens(["elephants"])
    with pytest.raises(TokenizerError, match="1 of its added tokens, as 'elephants', are not in its vocabulary"):
        smaller_vocabulary(made.to_str(), COUNTS, 200)
