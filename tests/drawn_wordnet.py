"""A small WordNet in the format of the real one (man 5 wndb)."""

from pathlib import Path

# Key, file of the lexicographers, lemmas, hypernyms.
SYNSETS = (
    ("00000001", 3, ("entity",), ()),
    ("00000002", 5, ("animal", "beast"), ("00000001",)),
    ("00000003", 5, ("dog", "hound", "canine"), ("00000002",)),
    ("00000004", 5, ("puppy", "pup"), ("00000003",)),
    ("00000005", 5, ("cat", "kitty"), ("00000002",)),
    ("00000006", 6, ("sofa", "couch"), ("00000001",)),
    ("00000007", 8, ("canine", "eyetooth"), ("00000001",)),
    ("00000008", 4, ("barking",), ("00000001",)),
    ("00000009", 5, ("Fido",), ("00000003",)),
    ("00000010", 6, ("boat",), ("00000001",)),
)
SENSES = {"canine": ("00000007", "00000003")}  # of several synsets, the most frequent first
COUNTS = ("dog%1:05:00:: 1 42", "puppy%1:05:00:: 1 3", "cat%1:05:00:: 1 18", "run%2:38:00:: 1 106", "run%1:04:00:: 2 4")
LICENSE = "  1 This line stands for the license at the beginning of each file.\n"


def write_wordnet(folder: Path) -> Path:
    """Write the files of nouns; return the folder."""
    words = sorted({lemma.lower() for _, _, lemmas, _ in SYNSETS for lemma in lemmas})
    lines = {
        "data.noun": [data_line(*synset) for synset in SYNSETS],
        "index.noun": [index_line(word) for word in words],
    }
    lines |= {"noun.exc": ["children child"], "verb.exc": ["ran run"], "cntlist.rev": list(COUNTS)}
    for name, content in lines.items():
        license_line = LICENSE if name.endswith(".noun") else ""
        (folder / name).write_text(license_line + "".join(f"{line}\n" for line in content), encoding="utf-8")
    return folder


def data_line(key: str, file: int, lemmas: tuple[str, ...], above: tuple[str, ...]) -> str:
    words = " ".join(f"{lemma} 0" for lemma in lemmas)
    pointers = "".join(f" @ {up} n 0000" for up in above)
    return f'{key} {file:02} n {len(lemmas):02x} {words} {len(above):03}{pointers} | a meaning; "an example | of it"'


def index_line(word: str) -> str:
    keys = SENSES.get(word) or [key for key, _, lemmas, _ in SYNSETS if word in map(str.lower, lemmas)]
    return f"{word} n {len(keys)} 1 @ {len(keys)} 0 {' '.join(keys)}"
