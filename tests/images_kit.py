"""Small test images, made when they are needed."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image, ImageChops, ImageStat

__all__ = ["decode", "difference", "encode", "gradient", "huge_png", "jpeg_lying", "small_frame_gif"]

_ORIENTATION = 0x0112


def gradient(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth and without symmetry, so that turned, mirrored and shifted images differ from it."""
    rising = Image.linear_gradient("L")
    size = (width, height)
    bands = [rising.resize(size), rising.rotate(90).resize(size), Image.radial_gradient("L").resize(size)]
    image = Image.merge("RGB", bands)
    if mode == "RGBA":
        image.putalpha(rising.resize(size))
        return image
    if mode == "I;16":
        return rising.resize(size).convert("I").point(lambda value: value * 257).convert("I;16")
    return image.convert(mode)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decode(data: bytes) -> Image.Image:
    """Decoded completely."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of the channels, of 255."""
    return float(max(ImageStat.Stat(ImageChops.difference(one.convert("RGBA"), other.convert("RGBA"))).mean))


def jpeg_lying(orientation: int, image: Image.Image | None = None) -> bytes:
    """A JPEG with that EXIF orientation."""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return encode(image or gradient(64, 40), "JPEG", exif=exif, quality=90)


def huge_png(width: int, height: int) -> bytes:
    """A few bytes that claim to be a large image."""
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def small_frame_gif() -> bytes:
    """A frame of 40 x 30 on a canvas of 100 x 80."""
    data = bytearray(encode(gradient(40, 30, "P"), "GIF"))
    data[6:10] = struct.pack("<HH", 100, 80)
    return bytes(data)
