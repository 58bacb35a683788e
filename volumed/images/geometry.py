"""Sizes of resized images, equal to the reference's to the pixel (http.md 3.9)."""

from __future__ import annotations

import math
from typing import NamedTuple

from volumed.images.job import Box

__all__ = ["EMPTY", "Scaling", "Size", "crop_fits", "scaling"]


class Size(NamedTuple):
    """Pixels."""

    width: int
    height: int


EMPTY = Size(0, 0)


class Scaling(NamedTuple):
    """The part of the source that is used (left, top, right, bottom), and the size it gets."""

    box: tuple[float, float, float, float]
    size: Size


def crop_fits(source: Size, crop: Box) -> bool:
    """Whether the cropped part lies inside; if not, nothing is cropped."""
    return crop[2] <= source.width and crop[3] <= source.height


def scaling(source: Size, width: int, height: int, mode: str) -> Scaling | None:
    """What a request for this size does to an image; None when it is left as it is. The size may be `EMPTY`."""
    wider = width != 0 and source.width > width
    higher = height != 0 and source.height > height
    if not wider and not higher:
        return None
    whole = (0.0, 0.0, float(source.width), float(source.height))
    if width < 0 or height < 0:
        return Scaling(whole, EMPTY)
    if mode in ("fit", "fill") and not (width and height):
        return Scaling(whole, EMPTY)
    if mode == "fit":
        return Scaling(whole, _fit(source, width, height))
    if mode == "fill" or (width == height and source.width != source.height):
        return _fill(source, width, height)
    return Scaling(whole, _derive(source, width, height))


def _fit(source: Size, width: int, height: int) -> Size:
    aspect = source.width / source.height
    # COMPAT: cut off, while the default mode rounds.
    if aspect > width / height:
        return Size(width, max(1, int(width / aspect)))
    return Size(max(1, int(height * aspect)), height)


def _fill(source: Size, width: int, height: int) -> Scaling:
    part_width, part_height = float(source.width), float(source.height)
    if source.width * height < source.height * width:
        part_height = max(1.0, source.width * height / width)
    else:
        part_width = max(1.0, source.height * width / height)
    left, top = (source.width - part_width) / 2, (source.height - part_height) / 2
    return Scaling((left, top, left + part_width, top + part_height), Size(width, height))


def _derive(source: Size, width: int, height: int) -> Size:
    if not width:
        width = _rounded(height * source.width / source.height)
    if not height:
        height = _rounded(width * source.height / source.width)
    return Size(width, height)


def _rounded(side: float) -> int:
    return max(1, math.floor(side + 0.5))
