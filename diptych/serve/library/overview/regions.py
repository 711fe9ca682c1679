"""Regions of the map, named by the word that sets their pictures apart from all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.text.known_words import content_words

if TYPE_CHECKING:
    from diptych.serve.model.served_model import ServedModel

# What photographs are of. A word is a name only where the model knows it and a region's pictures fit it.
_WORDS = """
dogs, cats, birds, horses, cows, sheep, elephants, giraffes, zebras, bears, monkeys, fish, insects,
butterflies, ducks, chickens, rabbits, a zoo, people, a portrait, babies, children, girls, boys, women, men,
a crowd, a family, friends, a wedding, a party, dancing, a concert, musicians, guitars, a stage, a parade,
soldiers, a protest, a meeting, an office, a classroom, a museum, paintings, statues, churches, towers,
castles, skyscrapers, a city, streets, houses, bridges, ruins, markets, shops, restaurants, signs, graffiti,
kitchens, bathrooms, bedrooms, living rooms, furniture, windows, stairs, books, letters, documents, maps,
screens, computers, phones, cameras, clocks, toys, dolls, drawings, food, fruit, vegetables, cakes, pizza,
bread, meat, desserts, coffee, drinks, wine, beer, flowers, roses, trees, forests, leaves, gardens, parks,
grass, fields, farms, mountains, hills, valleys, rocks, cliffs, caves, deserts, beaches, the sea, waves,
lakes, rivers, waterfalls, ponds, islands, harbours, boats, ships, sailing, canoes, fishing, swimming,
pools, diving, surfing, snow, ice, skiing, snowboarding, sledding, ice hockey, ice skating, skateboards,
bicycles, motorcycles, cars, car races, buses, trucks, trains, railways, airplanes, airports, roads,
tunnels, football, soccer, basketball, baseball, tennis, volleyball, rugby, golf, athletics, running,
gymnastics, boxing, climbing, hiking, camping, tents, playgrounds, swings, slides, trampolines, ball games,
frisbees, umbrellas, balloons, fireworks, fire, night, the moon, stars, the sky, clouds, sunsets, rain, fog,
autumn, Christmas, costumes, clothes, dresses, hats, shoes, jewellery, sunglasses, faces, hands, feet,
tattoos, black and white
"""
WORDS = tuple(word.strip() for word in _WORDS.replace("\n", " ").split(","))
COARSE, FINE = 16, 80  # regions at most: seen from afar, and from near
LEAST_SHARE = 0.15  # of a region's pictures, by their probabilities of all words, that its name fits
LEAST_LIFT = 2.0  # times its share of all pictures
_FEWEST, _LEAST = 40, 10  # pictures for each region on average, and in each that has a name
_BLOCK, _ROUNDS = 8192, 25


class Region(NamedTuple):
    """A part of the map: its name, its middle, its number of pictures, and whether it is seen from afar."""

    name: str
    x: float
    y: float
    count: int
    is_coarse: bool


def named_regions(model: ServedModel, vectors: np.ndarray, positions: np.ndarray) -> list[Region]:
    """The regions that have a name, the larger first. `vectors` (n, dim) are unit vectors, float16 or float32."""
    words = list(WORDS)
    if (known := model.known_words) is not None:
        words = [word for word in words if all(map(known.knows, content_words(word)))]
    if len(vectors) < 2 * _FEWEST or not words:
        return []
    texts = model.embed_texts([f"a photo of {word}" for word in words])
    blocks = (vectors[start : start + _BLOCK].astype(np.float32) for start in range(0, len(vectors), _BLOCK))
    shares = np.concatenate([_probabilities(block @ texts.T * model.scale) for block in blocks])
    found: list[Region] = []
    for most in (COARSE, FINE):
        groups = grouped(positions, min(most, len(positions) // _FEWEST))
        found += _named(words, shares, groups, positions, is_coarse=most == COARSE)
    return sorted(found, key=lambda region: -region.count)


def _probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the texts of each picture, (n, texts)."""
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    return likely / likely.sum(axis=1, keepdims=True)


def grouped(positions: np.ndarray, count: int) -> np.ndarray:
    """The group of each point, (n,), of `count` by k-means (Lloyd 1982); the first centres are far apart from each
    other (Gonzalez 1985), so that the same points always have the same groups."""
    points = positions.astype(np.float32)
    centres = points[[int(np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1)))]]
    far = ((points - centres[0]) ** 2).sum(axis=1)
    while len(centres) < count:
        centres = np.vstack([centres, points[int(far.argmax())]])
        far = np.minimum(far, ((points - centres[-1]) ** 2).sum(axis=1))
    groups = np.zeros(len(points), np.int64)
    for _ in range(_ROUNDS):
        halves = (centres**2).sum(axis=1) / 2
        for start in range(0, len(points), _BLOCK):
            some = slice(start, start + _BLOCK)
            groups[some] = np.argmax(points[some] @ centres.T - halves, axis=1)
        sizes = np.maximum(np.bincount(groups, minlength=count), 1)[:, None]
        sums = np.column_stack([np.bincount(groups, points[:, axis], count) for axis in (0, 1)])
        centres = (sums / sizes).astype(np.float32)
    return groups


def _named(
    words: list[str], shares: np.ndarray, groups: np.ndarray, positions: np.ndarray, *, is_coarse: bool
) -> list[Region]:
    """The groups in which a word has a large share that it has not elsewhere; of several with one word, that in which
    its share is largest."""
    sizes = np.bincount(groups)
    kept = np.flatnonzero(sizes >= _LEAST)
    if not len(kept):
        return []
    means = np.stack([shares[groups == group].mean(axis=0) for group in kept])
    fitting = np.where((means >= LEAST_SHARE) & (means >= LEAST_LIFT * shares.mean(axis=0)), means, 0)
    regions = []
    for row, group in enumerate(kept):
        word = int(fitting[row].argmax())
        if fitting[row, word] and fitting[row, word] == fitting[:, word].max():
            x, y = np.median(positions[groups == group], axis=0).tolist()
            regions.append(Region(words[word], round(x, 4), round(y, 4), int(sizes[group]), is_coarse))
    return regions
