"""High dynamic range brought to sRGB, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_files import hlg, pq, srgb_light

from diptych.media.pixels.tone_mapping import BT2020, DISPLAY_P3, HLG, PQ, is_beyond_srgb, to_srgb


def sixteen(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 65535).astype(np.uint16)


def in_the_dark(values: np.ndarray) -> np.ndarray:
    """With nine times as much black beside it: what is bright all over is exposed anew."""
    return np.hstack([values, np.zeros((len(values), 9 * values.shape[1], 3))])


@pytest.mark.parametrize(
    ("transfer", "coded"), [(PQ, lambda light: pq(light * 203)), (HLG, lambda light: hlg(light * 203))]
)
def test_what_is_no_brighter_than_white_keeps_its_values(transfer: int, coded: object) -> None:
    greys = np.repeat(np.arange(0, 256, 5)[None, :, None], 3, 2)
    values = sixteen(coded(srgb_light(greys / 255)))  # type: ignore[operator]
    np.testing.assert_allclose(to_srgb(values, transfer, BT2020), greys, atol=1)


def test_the_numbers_of_the_standards() -> None:
    """BT.2408, table 1: white is 58 % of PQ's range, and 75 % of HLG's; BT.2100: PQ ends at 10,000 cd/m²."""
    assert pq(np.array(203.0)) == pytest.approx(0.58, abs=0.002)
    assert hlg(np.array([[203.0] * 3]))[0, 0] == pytest.approx(0.75, abs=0.002)
    for transfer, white in ((PQ, 0.5807), (HLG, 0.75)):
        values = in_the_dark(np.full((1, 1, 3), white))
        assert to_srgb(sixteen(values), transfer, BT2020)[0, 0].min() >= 253


def test_highlights_are_rolled_off_and_shadows_stay() -> None:
    nits = np.array([0.0, 1, 10, 50, 100, 203, 400, 1000])
    values = in_the_dark(pq(np.repeat(nits[None, :, None], 3, 2)))
    mapped = to_srgb(sixteen(values), PQ, BT2020)[0, : len(nits), 0].astype(int)
    assert np.all(np.diff(mapped) > 0)  # all can be told apart, where clipping would leave white alone
    plain = np.rint(255 * np.interp(nits[:4] / 203, srgb_light(np.linspace(0, 1, 4096)), np.linspace(0, 1, 4096)))
    np.testing.assert_allclose(mapped[:4], plain, atol=1)
    assert mapped[-1] == 255
    assert 220 < mapped[5] < 250


@pytest.mark.parametrize("white", [100, 203, 1000])
def test_films_do_not_agree_on_white(white: int) -> None:
    """Photographs are bright by a quarter on average: they look alike, wherever a film has its white."""
    greys = np.linspace(0, 255, 64).astype(int).reshape(8, 8, 1).repeat(3, 2)
    found = to_srgb(sixteen(pq(srgb_light(greys / 255) * white)), PQ, BT2020).astype(int)
    assert np.abs(found - greys).mean() < (25 if white == 1000 else 2)
    assert found.max() > 250


def test_a_dark_picture_stays_dark() -> None:
    night = to_srgb(sixteen(pq(np.full((4, 4, 3), 1.0))), PQ, BT2020)
    assert night.max() < 30
    assert to_srgb(np.zeros((4, 4, 3), np.uint16), PQ, BT2020).max() == 0
    assert to_srgb(np.zeros((4, 4, 3), np.uint16), HLG, BT2020).max() == 0


@pytest.mark.parametrize(
    ("primaries", "corners"),
    [
        (BT2020, ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))),
        (DISPLAY_P3, ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))),
    ],
)
def test_wide_gamuts(primaries: int, corners: tuple[tuple[float, float], ...]) -> None:
    """Colours of BT.709, said in another gamut, come back; its own corners are clipped to ours."""
    to_wide = np.linalg.inv(_to_xyz(corners)) @ _to_xyz(((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)))
    colours = np.array([[(200, 30, 30), (30, 170, 30), (30, 30, 200), (120, 130, 140)]])
    light = srgb_light(colours / 255) @ to_wide.T
    wide = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(to_srgb(sixteen(wide), 1, primaries), colours, atol=2)
    np.testing.assert_array_equal(to_srgb(sixteen(np.eye(3)[None]), 1, primaries)[0], 255 * np.eye(3))


def _to_xyz(corners: tuple[tuple[float, float], ...]) -> np.ndarray:
    """RGB to XYZ from the chromaticities of the primaries, with the white D65 (SMPTE RP 177, section 3)."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in corners]).T
    white = np.array((0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290))
    return columns * np.linalg.solve(columns, white)


def test_ordinary_films_need_nothing() -> None:
    assert not is_beyond_srgb(1, 1)
    assert not is_beyond_srgb(2, 2)
    assert is_beyond_srgb(PQ, 2)
    assert is_beyond_srgb(HLG, BT2020)
    assert is_beyond_srgb(14, BT2020)
