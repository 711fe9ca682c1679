"""Tone mapping: high dynamic range and wide gamuts as 8-bit sRGB.

After ITU-R BT.2100 (PQ and HLG), BT.2408 (white at 203 cd/m², section 2.1) and BT.2390 (the EETF of section 5.4.1,
which rolls highlights off). The source's peak is measured in the picture itself, because a declared peak is often
absent or wrong. PQ videos do not agree on white either, which many have at 100 cd/m²: the exposure of a picture that
would be dark or glaring is corrected. Any other picture with nothing brighter than white keeps all its values.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.media.pixels.bands import bands

# By their numbers in ITU-T H.273, which containers and FFmpeg use
PQ, HLG = 16, 18
BT2020, DCI_P3, DISPLAY_P3 = 9, 11, 12

WHITE_NITS = 203.0
HLG_PEAK_NITS = 1000.0  # of the reference screen for HLG
_PEAK_PERCENTILE = 99.9  # brighter glints are clipped
# For PQ: the greatest gain, which makes white of 100 cd/m² white, and the greatest mean brightness, 1 being white.
# The brightest of 24 photographs has a mean of 0.54.
_MAX_GAIN, _MAX_MEAN = 2.03, 0.5
# Linear light of these primaries to that of BT.709's, all with the white D65 (from their chromaticities: SMPTE RP 177)
_TO_BT709 = {
    BT2020: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    DISPLAY_P3: ((1.2249, -0.2249, 0.0), (-0.0420, 1.0420, 0.0), (-0.0196, -0.0786, 1.0982)),
}
_TO_BT709[DCI_P3] = _TO_BT709[DISPLAY_P3]  # its own white is greenish, which no video intends


def is_beyond_srgb(transfer: int, primaries: int) -> bool:
    """Whether values with these H.273 numbers look different from sRGB's."""
    return transfer in (PQ, HLG) or primaries in _TO_BT709


def to_srgb(values: NDArray[np.uint16], transfer: int, primaries: int) -> NDArray[np.uint8]:
    """Full-range RGB (h, w, 3) -> sRGB. `transfer` and `primaries` are H.273's numbers. Every transfer but PQ and HLG
    counts as sRGB's curve. Unknown primaries count as BT.709's or, with PQ and HLG, as BT.2020's."""
    parts = list(bands(values.shape[1], values.shape[0]))
    gain, peak = 1.0, 1.0
    if transfer in (PQ, HLG):
        brightest = np.empty(values.shape[:2], np.float32)
        for top, bottom in parts:
            brightest[top:bottom] = _linear(values[top:bottom], transfer).max(-1)
        gain = _gain(brightest) if transfer == PQ else 1.0
        if gain != 1:
            brightest *= np.float32(gain)
        peak = _peak(brightest)
        primaries = primaries if primaries in _TO_BT709 else BT2020
    shown = np.empty(values.shape, np.uint8)
    for top, bottom in parts:
        light = _linear(values[top:bottom], transfer)
        light = _rolled_off(light if gain == 1 else light * np.float32(gain), peak)
        if primaries in _TO_BT709:
            light = light @ np.array(_TO_BT709[primaries], np.float32).T
        shown[top:bottom] = _coded()[np.rint(np.clip(light, 0, 1) * 65535).astype(np.uint16)]
    return shown


def _linear(values: NDArray[np.uint16], transfer: int) -> NDArray[np.float32]:
    """Linear light (h, w, 3), 1 being white."""
    light = _light(transfer)[values]
    if transfer == HLG:
        # BT.2100, table 5: scene light to display light, with a system gamma of 1.2
        brightness = light @ np.array((0.2627, 0.6780, 0.0593), np.float32)
        light *= (HLG_PEAK_NITS / WHITE_NITS) * brightness[..., None] ** np.float32(0.2)
    return light


def _peak(brightest: NDArray[np.float32]) -> float:
    return float(np.percentile(brightest, _PEAK_PERCENTILE))


def _gain(brightest: NDArray[np.float32]) -> float:
    """The gain that brightens a picture without white, or darkens one that is nearly all white."""
    gain = float(np.clip(1 / max(_peak(brightest), 1e-6), 1, _MAX_GAIN))
    return gain * min(1, _MAX_MEAN / max(gain * float(brightest.mean()), 1e-6))


def _rolled_off(light: NDArray[np.float32], peak: float) -> NDArray[np.float32]:
    """Linear light (h, w, 3), 1 being white, with values up to `peak` compressed below 1: BT.2390's EETF on the
    greatest of the three, whose ratios stay."""
    if peak <= 1.001:
        return light
    brightest = light.max(-1)
    top = float(_pq(np.float32(peak * WHITE_NITS)))
    target = float(_pq(np.float32(WHITE_NITS))) / top
    knee = 1.5 * target - 0.5
    coded = np.minimum(_pq(brightest * WHITE_NITS) / top, 1)
    t = np.maximum(coded - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * target
    mapped = np.where(coded < knee, coded, spline) * top
    return light * (_pq_nits(mapped) / WHITE_NITS / np.maximum(brightest, 1e-6))[..., None]


# BT.2100, table 4
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq(nits: Any) -> Any:
    """cd/m² -> PQ value from 0 to 1, for a number or an array of float32."""
    power = (np.maximum(nits, 0) / 10000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _pq_nits(coded: Any) -> Any:
    """PQ value from 0 to 1 -> cd/m²."""
    power = np.maximum(coded, 0) ** (1 / _M2)
    return 10000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


@cache
def _light(transfer: int) -> NDArray[np.float32]:
    """The linear light of each of the 65,536 values, 1 being white; for HLG the scene's, 1 being the peak."""
    values = np.linspace(0, 1, 65536)
    if transfer == PQ:
        light = _pq_nits(values.astype(np.float32)) / WHITE_NITS
    elif transfer == HLG:  # BT.2100, table 5
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    else:  # IEC 61966-2-1
        light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@cache
def _coded() -> NDArray[np.uint8]:
    """The sRGB value of each of 65,536 steps of linear light."""
    light = np.linspace(0, 1, 65536)
    coded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(coded * 255).astype(np.uint8)
