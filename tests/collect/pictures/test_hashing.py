import numpy as np
from PIL import Image

from diptych.collect.pictures.hashing import distance, perceptual_hash


def wave(across: int, down: int) -> Image.Image:
    """One function of the DCT-II, 32 x 32: cos(pi f (2 x + 1) / 64) along both sides, around middle grey."""
    steps = (2 * np.arange(32) + 1) * np.pi / 64
    return Image.fromarray(
        (128 + 100 * np.outer(np.cos(down * steps), np.cos(across * steps))).round().astype(np.uint8)
    )


def test_a_wave_sets_the_bit_of_its_frequencies() -> None:
    """By hand: the DCT's functions are orthogonal, so the one of `across` and `down` is the greatest of the 64."""
    for across, down in [(1, 1), (8, 1), (1, 8), (3, 5)]:
        bit = 63 - (8 * (down - 1) + across - 1)
        assert perceptual_hash(wave(across, down)) >> bit & 1


def test_the_opposite_wave_does_not() -> None:
    negative = Image.fromarray(255 - np.asarray(wave(3, 5)))
    assert not perceptual_hash(negative) >> (63 - (8 * 4 + 2)) & 1


def test_brightness_and_contrast_change_nothing() -> None:
    noise = np.random.default_rng(2).integers(60, 200, (32, 32)).astype(np.uint8)
    brighter = Image.fromarray(noise + 40)
    assert perceptual_hash(Image.fromarray(noise)) == perceptual_hash(brighter)


def test_half_of_the_bits_are_set() -> None:
    """They are above their median."""
    noise = np.random.default_rng(2).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    assert perceptual_hash(Image.fromarray(noise)).bit_count() == 32


def test_distance() -> None:
    assert distance(0b1011, 0b0010) == 2
    assert distance(2**64 - 1, 0) == 64
