#!/usr/bin/env bash
# A Unigram model without an unknown token refuses text that its vocabulary covers, and a batch with it.
# tokenizers 0.23.3.
# Expected: unk_id is optional, and is needed where a text has something unknown.
# Seen: the vocabulary ["photo"] refuses the text "photo": "Encountered an unknown token but `unk_id` is missing",
# because every single letter that is no token is an unknown in the lattice, whether the best path uses it or not.
# With unk_id the same text is ["photo"]; with the letters as tokens it needs no unk_id, until a text has another
# letter: then encode_batch raises a bare Exception and the other texts are lost with it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

from tokenizers import Tokenizer
from tokenizers.models import Unigram


def tokens(vocabulary, unknown, text="photo"):
    try:
        return Tokenizer(Unigram(vocabulary, unknown)).encode(text).tokens
    except Exception as error:
        assert type(error) is Exception
        return str(error)


word, letters = ("photo", -1.0), [(letter, -9.0) for letter in "phot"]
without = tokens([word], None)
print("without unk_id:", without)
print("with unk_id:", tokens([word, ("<unk>", -9.0)], 1), "with letters:", tokens([word, *letters], None))
assert tokens([word, ("<unk>", -9.0)], 1) == ["photo"] == tokens([word, *letters], None)
lettered = Tokenizer(Unigram([word, *letters], None))
assert [encoded.tokens for encoded in lettered.encode_batch(["photo", "hot"])] == [["photo"], ["h", "o", "t"]]
try:
    lettered.encode_batch(["photo", "cat"])
    sys.exit("changed: an unknown letter costs nothing")
except Exception as error:
    print("a batch with one unknown letter:", error)
if without == ["photo"]:
    sys.exit("changed: what the vocabulary covers needs no unknown token")
assert "unk_id" in without
PROGRAM
