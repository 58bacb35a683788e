"""What is asked of the image process, and the frames in which it is asked and answered.

A request is a head, the job as MessagePack and the image file; a reply is a head and the new file. One request is under
way at a time.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

__all__ = ["REPLY_HEAD", "REQUEST_HEAD", "Box", "Encoding", "ImageJob", "decode_job", "encode_job"]

Encoding = Literal["png", "jpeg", "gif"]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are outside."""

REQUEST_HEAD = struct.Struct(">II")
"""Bytes of the job, bytes of the file."""
REPLY_HEAD = struct.Struct(">?I")
"""Whether there is a new file (else the old one is to be used), its bytes."""


class ImageJob(msgspec.Struct, frozen=True):
    """Crop, then resize, then encode. With ``upright`` the other fields do not count: a JPEG is turned as its EXIF
    orientation says."""

    encoding: Encoding = "jpeg"
    crop: Box | None = None
    width: int = 0
    height: int = 0
    mode: str = ""
    """`fit`, `fill`, or empty for the default mode."""
    upright: bool = False


encode_job = msgspec.msgpack.Encoder().encode
decode_job = msgspec.msgpack.Decoder(ImageJob).decode
