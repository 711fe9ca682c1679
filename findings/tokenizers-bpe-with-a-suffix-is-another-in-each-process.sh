#!/usr/bin/env bash
# Training CLIP's kind of tokenizer (BPE with an end-of-word suffix) twice on the same text gives two
# tokenizers.
# tokenizers 0.23.3.
# Expected: the same words, the same settings, the same ids; without the suffix it is so.
# Seen: the letters that end words get their ids in the order of a hash map with a random seed, and ids break
# ties between merges: several vocabularies from 8 processes. Ranks of one distributed run disagree, too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import subprocess
import sys

program = '''
import hashlib, sys
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
suffix = {"end_of_word_suffix": "</w>"} if sys.argv[1] == "suffix" else {}
tokenizer = Tokenizer(models.BPE(**suffix))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
trainer = trainers.BpeTrainer(vocab_size=80, show_progress=False, **suffix)
tokenizer.train_from_iterator(["a cat and a dog on the grass by an old red barn under some trees"], trainer)
print(hashlib.sha256(tokenizer.to_str().encode()).hexdigest())
'''
program = "\n".join(line.strip() for line in program.splitlines())
count = {
    kind: len({subprocess.check_output([sys.executable, "-c", program, kind]) for _ in range(8)})
    for kind in ("plain", "suffix")
}
print("different tokenizers from 8 processes:", count)
assert count["plain"] == 1, "without a suffix it changed"
if count["suffix"] == 1:
    sys.exit("changed: it is the same in each process")
PROGRAM
