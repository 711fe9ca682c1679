"""What the text tower reads besides captions of photographs: class names, WordNet's synonyms and glosses, slips."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from classes import Class, ancestors, glosses, read_classes, spaced  # first: it finds bench/
from torch import Tensor
from wordnet import FOLDER, read
from words import Question, synonyms, vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEMPLATES = (
    "{}",
    "a photo of a {}",
    "a {}",
    "a picture of a {}",
    "a close-up of a {}",
    "there is a {}",
    "the {} in the picture",
)


WordPair = tuple[str, str, frozenset[str]]  # two texts, and the words that are no negatives of theirs


class English:
    """Texts to draw from. `nouns` are the 1,000 commonest nouns of the captions; `held_out` are the pairs that
    bench/words.py asks; with `hold_out` their synsets teach only their glosses."""

    def __init__(
        self,
        captions: Sequence[Sequence[str]],
        more_captions: Path,
        folder: Path = Path(FOLDER),
        *,
        hold_out: bool = True,
    ):
        self.net, self.gloss = read(folder), glosses(folder)
        self.classes = read_classes(self.net)
        self.captions = [line for line in more_captions.read_text("utf-8").splitlines() if line]
        self.flat = flat = [text for texts in captions for text in texts]
        known = vocabulary(flat, self.net)
        self.nouns = known.candidates
        self.held_out: list[Question] = synonyms(self.net, known, 0, 200)
        held = self.held_out if hold_out else []
        self._held = {frozenset((each.word, answer)) for each in held for answer in each.answers}
        counts = Counter(word for text in (*flat, *self.captions) for word in re.findall("[a-z]+", text.lower()))
        self.common = [word for word, count in counts.items() if count >= 4 and len(word) > 3]
        self.synsets = [key for key, synset in self.net.synsets.items() if synset.lemmas]
        candidates = set(self.nouns)
        self.seen = [key for key in self.synsets if any(lemma in counts for lemma in self.net.synsets[key].lemmas)]
        self.asked = [key for key in self.synsets if candidates & set(self.net.synsets[key].lemmas)]
        self._class_texts()

    def _class_texts(self) -> None:
        """The names of each class and of its hypernyms, and for each text the classes that it is true of."""
        leaves: dict[str, list[int]] = defaultdict(list)
        for number, each in enumerate(self.classes):
            for key in (each.key, *ancestors(self.net, each.key)):
                leaves[key].append(number)
        self.leaves = {key: _mask(numbers) for key, numbers in leaves.items()}
        self.chains = [
            [key for key in ancestors(self.net, each.key) if len(leaves[key]) <= 250] for each in self.classes
        ]
        # Classes that a caption's word for this one may be true of: those under its hypernym of at most 130 classes.
        kin = []
        for each, chain in zip(self.classes, self.chains, strict=True):
            near = [key for key in (each.key, *chain) if len(leaves[key]) <= 130]
            kin.append(self.leaves[max(near, key=lambda key: len(leaves[key]))])
        self.kin = torch.stack(kin)

    def name_of(self, number: int) -> tuple[str, Tensor]:
        """A text about a class, by its own names or a hypernym's, and the classes that it is true of, (1000)."""
        each: Class = self.classes[number]
        if self.chains[number] and random.random() < 0.3:
            key = random.choice(self.chains[number])
            return random.choice(TEMPLATES).format(spaced(random.choice(self.net.synsets[key].lemmas))), self.leaves[
                key
            ]
        name = each.names[0] if random.random() < 0.6 else random.choice(each.names)
        text = random.choice(TEMPLATES).format(name)
        return (slip(text) if random.random() < 0.05 else text), self.leaves[each.key]

    def changed(self, caption: str) -> str:
        """A caption, now and then with a slip, or in lower case without its stop."""
        if random.random() < 0.1:
            return slip(caption)
        return caption.rstrip(" .") if random.random() < 0.3 else caption

    def pairs(self, count: int, slips: float = 0.15) -> list[WordPair]:
        """Pairs of texts that say the same, a share `slips` of them a word and a slip of it."""
        found = []
        while len(found) < count:
            keys = random.choices((self.asked, self.seen, self.synsets), (0.7, 0.2, 0.1))[0]
            found.append(self._slip_pair() if random.random() < slips else self._synset_pair(random.choice(keys)))
        return found

    def _slip_pair(self) -> WordPair:
        word = random.choice(self.common)
        return slip(word), word, frozenset([word])

    def _synset_pair(self, key: str) -> WordPair:
        lemmas, template = self.net.synsets[key].lemmas, random.choice(TEMPLATES[:3])
        left = random.choice(lemmas)
        others = [lemma for lemma in lemmas if lemma != left and frozenset((left, lemma)) not in self._held]
        if others and random.random() < 0.75:
            return template.format(spaced(left)), template.format(spaced(random.choice(others))), frozenset(lemmas)
        return spaced(left), self.gloss[key], frozenset(lemmas)


def slip(text: str, chance: random.Random | None = None) -> str:
    """A text with one letter of a word of at least four dropped, doubled, replaced, or swapped with the next."""
    draw = chance or random
    words = list(re.finditer(r"[A-Za-z]{4,}", text))
    if not words:
        return text
    word = draw.choice(words)
    at = draw.randrange(word.start() + 1, word.end())  # people seldom miss the first letter
    before, letter, after = text[:at], text[at], text[at + 1 :]
    kind = draw.randrange(4)
    if kind == 0:
        return before + after
    if kind == 1:
        return before + letter + letter + after
    if kind == 2:
        return before + draw.choice(LETTERS) + after
    return text[: at - 1] + letter + text[at - 1] + after if at > word.start() + 1 else before + after


def _mask(numbers: Sequence[int]) -> Tensor:
    mask = torch.zeros(1000)
    mask[list(numbers)] = 1.0
    return mask
