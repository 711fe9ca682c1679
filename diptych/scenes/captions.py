"""Writes true captions of drawn scenes: lists, single objects, counts, positions, relations and backgrounds, in many
wordings."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import permutations
from random import Random
from typing import Protocol

COLOUR_SYNONYMS = {"cyan": ("turquoise", "turquoise"), "purple": ("violet",), "grey": ("gray", "gray")}
KIND_SYNONYMS = {
    "crescent": ("moon", "crescent moon"),
    "cup": ("mug",),
    "oval": ("ellipse",),
    "boat": ("sailboat",),
    "cross": ("plus sign",),
    "diamond": ("rhombus",),
}
SIZE_SYNONYMS = {"small": ("little", "tiny"), "large": ("big", "big")}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

BoxXywh = tuple[float, float, float, float]


class Described(Protocol):
    """An object that a caption describes."""

    @property
    def kind(self) -> str: ...
    @property
    def colour(self) -> str: ...
    @property
    def size(self) -> str: ...
    @property
    def box_xywh_px(self) -> BoxXywh: ...


def captions_of(
    things: Sequence[Described], covered: Sequence[tuple[int, int]], ground: str, *, size_px: int, rng: Random
) -> tuple[str, ...]:
    """Up to five different captions; the first names everything.

    `covered` holds (front, back) indices into `things`; `ground` describes the background, or is "".
    """
    makers: list[Callable[[], str]] = [
        lambda: _whole(things, ground, rng),
        lambda: _single(things, size_px, rng),
        lambda: _relation(things, covered, size_px, rng),
        lambda: _count(things, rng),
        lambda: _whole(things, ground, rng),
        lambda: _single(things, size_px, rng),
    ]
    captions: list[str] = []
    for attempt in range(15):
        text = makers[attempt % len(makers)]()
        if text and text not in captions:
            captions.append(text)
        if len(captions) == 5:
            break
    return tuple(_punctuate(text, rng) for text in captions)


def article(words: str) -> str:
    """Adds "a" or "an" before the words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plural(words: str) -> str:
    """The plural of a name."""
    if words.endswith("fish"):
        return words
    return words + ("es" if words.endswith(("s", "x", "sh", "ch")) else "s")


def _synonym(word: str, table: dict[str, tuple[str, ...]], rng: Random) -> str:
    return rng.choice(table[word]) if word in table and rng.random() < 0.3 else word


def _name(thing: Described, rng: Random, *, sized: float = 0.35) -> str:
    words = [_synonym(thing.colour, COLOUR_SYNONYMS, rng), _synonym(thing.kind, KIND_SYNONYMS, rng)]
    if thing.size and rng.random() < sized:
        words.insert(0, _synonym(thing.size, SIZE_SYNONYMS, rng))
    return " ".join(words)


def _join(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _listing(things: Sequence[Described], rng: Random) -> str:
    """All objects, equal ones counted together: "two red cats and a blue square"."""
    groups = Counter((thing.colour, thing.kind) for thing in things)
    phrases = []
    for thing in rng.sample(things, len(things)):
        number = groups.pop((thing.colour, thing.kind), 0)
        if number == 1:
            phrases.append(article(_name(thing, rng)))
        elif number:
            phrases.append(f"{_NUMBERS[number]} {plural(_name(thing, rng, sized=0))}")
    return _join(phrases)


_WHOLE = (
    "{}", "{}", "{}", "a picture of {}", "an image of {}", "a photo of {}", "a drawing of {}", "an illustration of {}",
    "there is {}", "a picture with {}", "{} can be seen", "this picture shows {}", "a scene with {}", "clip art of {}",
    "a computer graphic with {}", "we can see {}", "the image contains {}", "{} together",
)  # fmt: skip
_ON_GROUND = ("{} on {}", "{} against {}", "a picture of {} on {}", "{} in front of {}", "there is {} on {}")


def captions_about(thing: Described, count: int, *, rng: Random) -> tuple[str, ...]:
    """`count` different captions that name one object without its position."""
    captions: list[str] = []
    while len(captions) < count:
        text = rng.choice(_SINGLE[:-1]).format(article(_name(thing, rng, sized=0)))
        if text not in captions:
            captions.append(text)
    return tuple(_punctuate(text, rng) for text in captions)


def _whole(things: Sequence[Described], ground: str, rng: Random) -> str:
    listing = _listing(things, rng)
    if ground and rng.random() < 0.5:
        return rng.choice(_ON_GROUND).format(listing, article(ground))
    template = rng.choice(_WHOLE if len(things) > 1 else _WHOLE[:-1])
    if listing.startswith(_NUMBERS[2:]):
        template = template.replace("there is", "there are")
    return template.format(listing)


_SINGLE = (
    "{}", "{}", "a photo of {}", "a picture of {}", "there is {}", "an image with {}", "a drawing of {}", "look at {}",
    "you can see {} here", "a picture that shows {}", "{} in the picture", "one of the things is {}",
)  # fmt: skip
_POSITIONED = (
    "{} {}",
    "{} {}",
    "there is {} {}",
    "{} is {}",
    "{} {} of the picture",
    "we see {} {}",
    "a picture with {} {}",
)


def position_words(box: BoxXywh, size_px: int) -> tuple[str, ...]:
    """The position of a box in its picture: "on the left", "in the top right corner", ...; () if it is not clear."""
    x, y = (box[0] + box[2] / 2) / size_px, (box[1] + box[3] / 2) / size_px
    across = "left" if x < 0.36 else "right" if x > 0.64 else ""
    upright = "top" if y < 0.36 else "bottom" if y > 0.64 else ""
    if across and upright:
        corner = (f"in the {upright} {across} corner", f"at the {upright} {across}") if _is_corner(x, y) else ()
        return (*corner, f"on the {across}", f"at the {upright}")
    if across:
        return (f"on the {across}", f"on the {across} side")
    if upright:
        return (f"at the {upright}",)
    return ("in the middle", "in the center", "in the centre") if 0.4 < x < 0.6 and 0.4 < y < 0.6 else ()


def _is_corner(x: float, y: float) -> bool:
    return max(min(x, 1 - x), min(y, 1 - y)) < 0.32


def _single(things: Sequence[Described], size_px: int, rng: Random) -> str:
    thing = rng.choice(things)
    name = article(_name(thing, rng, sized=0.5))
    positions = position_words(thing.box_xywh_px, size_px)
    if positions and rng.random() < 0.6:
        return rng.choice(_POSITIONED).format(name, rng.choice(positions))
    return rng.choice(_SINGLE[: -1 if len(things) == 1 else None]).format(name)


def relations_of(one: BoxXywh, other: BoxXywh, size_px: int) -> tuple[str, ...]:
    """The relation of `one` to `other` by their boxes: "to the left of", "above", "next to", ...; () if it is not
    clear."""
    (x0, y0, w0, h0), (x1, y1, w1, h1) = one, other
    right, down = x0 + w0 / 2 - x1 - w1 / 2, y0 + h0 / 2 - y1 - h1 / 2
    gap_x, gap_y = max(x1 - x0 - w0, x0 - x1 - w1), max(y1 - y0 - h0, y0 - y1 - h1)
    words: tuple[str, ...] = ()
    if gap_x >= 0 and abs(right) > 1.2 * abs(down):
        words = ("to the left of", "left of") if right < 0 else ("to the right of", "right of")
        words += ("next to", "beside") if gap_x < 0.2 * size_px and gap_y < 0 else ()
    elif gap_y >= 0 and abs(down) > 1.2 * abs(right):
        words = ("above", "above", "over") if down < 0 else ("below", "below", "under")
    near = max(gap_x, gap_y)
    return (*words, "near") if words and near < 0.1 * size_px else words


def _relation(things: Sequence[Described], covered: Sequence[tuple[int, int]], size_px: int, rng: Random) -> str:
    """A relation of two objects, each the only one of its colour and kind; "" if none is clear."""
    names = Counter((thing.colour, thing.kind) for thing in things)
    relations: list[tuple[Described, str, Described]] = []
    for one, other in permutations(range(len(things)), 2):
        a, b = things[one], things[other]
        if names[a.colour, a.kind] > 1 or names[b.colour, b.kind] > 1:
            continue
        relations += [(a, words, b) for words in relations_of(a.box_xywh_px, b.box_xywh_px, size_px)]
        if (one, other) in covered:
            relations += [(a, words, b) for words in ("in front of", "overlapping", "covering part of")]
            relations.append((b, "behind", a))
        if a.size == "large" and b.size == "small":
            relations += [(a, "larger than", b), (b, "smaller than", a)]
    if not relations:
        return ""
    a, words, b = rng.choice(relations)
    first, second = _name(a, rng, sized=0.2), _name(b, rng, sized=0.2)
    if words.endswith("than"):
        return f"the {first} is {words} the {second}"
    form = rng.choice(("{} {} {}", "{} {} {}", "{} is {} {}", "there is {} {} {}"))
    return form.format(article(first), words, article(second))


def _count(things: Sequence[Described], rng: Random) -> str:
    """An exact count of all objects or of those that share a kind or a colour; "" for a single object."""
    if len(things) < 2:
        return ""
    kinds, colours = Counter(thing.kind for thing in things), Counter(thing.colour for thing in things)
    kind_words = [f"{_NUMBERS[n]} {plural(_synonym(kind, KIND_SYNONYMS, rng))}" for kind, n in kinds.items() if n > 1]
    colour_words = [
        f"{_NUMBERS[n]} {colour} {rng.choice(('things', 'objects'))}" for colour, n in colours.items() if n > 1
    ]
    every = f"{_NUMBERS[len(things)]} {rng.choice(('things', 'objects', 'drawn objects', 'items'))}"
    words = rng.choice(kind_words * 3 + colour_words + [every])
    if words == every and rng.random() < 0.7:
        return f"{every}: {_listing(things, rng)}"
    return rng.choice(("{}", "there are {}", "a picture with {}", "{} in one picture", "a photo of {}")).format(words)


def _punctuate(text: str, rng: Random) -> str:
    """Sometimes adds a capital, a full stop, or the spaced full stop of tokenised captions."""
    ending = rng.choice(("", "", "", ".", " ."))
    return (text[0].upper() + text[1:] if rng.random() < 0.3 else text) + ending
