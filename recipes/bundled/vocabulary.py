"""A copy of MiniLM's folder with a smaller vocabulary: that of captions, of class names, and of WordNet.

    python vocabulary.py --minilm FOLDER --data SHARDS --captions COCO.txt --out FOLDER [--size 13000]

Beside the usual files OUT gets kept.json, the former id of each token.
"""

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path

from english import English
from safetensors.numpy import load_file, save_file

from diptych.data.loading.stream import indexed
from diptych.data.sources.opening import open_source
from diptych.text.vocabulary import smaller_vocabulary

TOKENS = "embeddings.word_embeddings.weight"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("minilm", "data", "captions", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--size", type=int, default=13000)
    options = parser.parse_args()
    source = indexed(open_source(options.data))
    english = English([source.captions(row) for row in range(len(source))], options.captions)
    words = (options.minilm / "tokenizer.json").read_text("utf-8")
    smaller = smaller_vocabulary(words, _counts(english, words), options.size)
    shutil.copytree(options.minilm, options.out, dirs_exist_ok=True)
    (options.out / "tokenizer.json").write_text(smaller.tokenizer_json, "utf-8")
    (options.out / "kept.json").write_text(json.dumps(smaller.ids.tolist()))
    settings = json.loads((options.out / "config.json").read_text())
    (options.out / "config.json").write_text(json.dumps(settings | {"vocab_size": len(smaller.ids)}))
    weights = load_file(options.minilm / "model.safetensors")
    name = next(name for name in weights if name.endswith(TOKENS))
    save_file(weights | {name: weights[name][smaller.ids]}, options.out / "model.safetensors", {"format": "pt"})
    print(f"{len(smaller.ids)} tokens")


def _counts(english: English, tokenizer_json: str) -> dict[str, float]:
    """Texts with their weights. MiniLM's own whole words stand for English that none of the sources has."""
    counts: Counter[str] = Counter()
    for text in (*english.flat, *english.captions):
        counts[text] += 1
    for each in english.classes:
        for name in each.names:
            counts[name] += 30
    seen = set(english.seen)
    for key in english.synsets:
        counts[english.gloss[key]] += 0.2
        for lemma in english.net.synsets[key].lemmas:
            counts[lemma.replace("_", " ")] += 3 if key in seen else 1
    for word in json.loads(tokenizer_json)["model"]["vocab"]:
        if word.isascii() and word.isalpha() and len(word) > 2:
            counts[word] += 1
    return dict(counts)


if __name__ == "__main__":
    main()
