"""Decode, transform and encode one image with Pillow. Runs in the image process alone: decoders crash and hang."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageFile

from volumed.images.geometry import EMPTY, Scaling, Size, crop_fits, scaling
from volumed.images.job import ImageJob

__all__ = ["RESULT_PIXELS_MAX", "SOURCE_PIXELS_MAX", "transform"]

SOURCE_PIXELS_MAX = 100_000_000
"""Larger images are not decoded."""
RESULT_PIXELS_MAX = 50_000_000
JPEG_QUALITY = 75
_SIDE_MAX = {"jpeg": 65_535, "gif": 65_535}
"""What the formats can state; COMPAT: a longer side gives an empty file."""

# COMPAT: the reference decodes BMP and TIFF, too, when the name asks for one of the other types.
_DECODED = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
_JPEG = ("JPEG", "MPO")
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = 1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what makes it upright."""
_DECODED_LARGER = 8
"""How much larger than the result a JPEG is decoded at least; with less, very small results differ visibly."""

Image.MAX_IMAGE_PIXELS = None  # checked here, with an outcome of our own


def transform(data: bytes, job: ImageJob) -> bytes | None:
    """The new file; None when the old one is to be used: there is nothing to do, it cannot be decoded, or source or
    result are too large. A result without pixels is an empty file."""
    try:
        with Image.open(io.BytesIO(data), formats=_DECODED) as image:
            if image.width * image.height > SOURCE_PIXELS_MAX or _is_undecodable_elsewhere(image):
                return None
            return _upright(image) if job.upright else _reshape(image, job)
    except Exception:
        # Decoders raise whatever occurs to them about damaged files, MemoryError included.
        return None


def _is_undecodable_elsewhere(image: Image.Image) -> bool:
    """COMPAT: the reference cannot decode animated WebP, nor images of floating-point numbers."""
    return image.mode == "F" or (image.format == "WEBP" and getattr(image, "is_animated", False))


def _reshape(image: ImageFile.ImageFile, job: ImageJob) -> bytes | None:
    frame = image.tile[0][1] if image.format == "GIF" else None
    # COMPAT: the first frame of a GIF counts, not its canvas.
    size = Size(image.width, image.height) if frame is None else Size(frame[2] - frame[0], frame[3] - frame[1])
    crop = job.crop if job.crop is not None and crop_fits(size, job.crop) else None
    if crop is not None:
        size = Size(crop[2] - crop[0], crop[3] - crop[1])
    scale = scaling(size, job.width, job.height, job.mode)
    if scale is None and crop is None:
        return None
    if scale is not None:
        if scale.size == EMPTY or max(scale.size) > _SIDE_MAX.get(job.encoding, max(scale.size)):
            image.load()
            return b""
        if scale.size.width * scale.size.height > RESULT_PIXELS_MAX:
            return None
        if crop is None:
            scale = _decode_small(image, scale)
    pixels = _pixels(image)
    if frame is not None:
        pixels = pixels.crop(frame)
    if crop is not None:
        pixels = pixels.crop(crop)
    if scale is not None:
        pixels = pixels.resize(scale.size, Image.Resampling.LANCZOS, scale.box)
    return _ENCODERS[job.encoding](pixels)


def _decode_small(image: Image.Image, scale: Scaling) -> Scaling:
    """Have a JPEG decoded no larger than needed; returns the scaling of what will come out."""
    left, top, right, bottom = scale.box
    before = image.size
    wanted = (
        int(_DECODED_LARGER * before[0] * scale.size.width / (right - left)),
        int(_DECODED_LARGER * before[1] * scale.size.height / (bottom - top)),
    )
    image.draft(None, wanted)
    x, y = image.width / before[0], image.height / before[1]
    return Scaling((left * x, top * y, min(right * x, image.width), min(bottom * y, image.height)), scale.size)


def _pixels(image: Image.Image) -> Image.Image:
    """The decoded image as RGB or RGBA, eight bits each, and nothing else that the file said."""
    image.load()
    if image.mode.startswith("I"):
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    mode = "RGBA" if image.has_transparency_data else "RGB"
    pixels = image if image.mode == mode else image.convert(mode)
    pixels.info = {}
    return pixels


def _upright(image: Image.Image) -> bytes | None:
    if image.format not in _JPEG or "exif" not in image.info:
        return None
    exif = Image.Exif()
    exif.load(image.info["exif"])
    orientation = exif.get(_EXIF_ORIENTATION, _UPRIGHT)
    if orientation == _UPRIGHT:
        return None
    turn = _TURNS.get(orientation)
    pixels = _pixels(image)
    # COMPAT: with a number that means nothing it is encoded anew, too.
    return _encode_jpeg(pixels if turn is None else pixels.transpose(turn))


def _encode_png(image: Image.Image) -> bytes:
    opaque = image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255)
    return _save(image.convert("RGB") if opaque else image, "PNG")


def _encode_jpeg(image: Image.Image) -> bytes:
    return _save(_on_black(image), "JPEG", quality=JPEG_QUALITY)


def _encode_gif(image: Image.Image) -> bytes:
    return _save(_on_black(image).quantize(256), "GIF")


def _on_black(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    flat = Image.new("RGB", image.size)
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def _save(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


_ENCODERS: dict[str, Callable[[Image.Image], bytes]] = {"png": _encode_png, "jpeg": _encode_jpeg, "gif": _encode_gif}
