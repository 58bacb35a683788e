"""Types taken from the content (http.md 1.4, appendix B)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.interop.differential.kit import TS, Case, fid, get, put

CONTENT: dict[str, bytes] = {
    "doctype": b" \t\r\n<!doctype HTML>", "html tag": b"<hTmL>", "tag without an end": b"<htmlx>",
    "short tag": b"<b>x", "comment": b"<!-- x", "comment without a blank": b"<!--x", "xml": b"\n<?xml version",
    "pdf": b"%PDF-1.4", "postscript": b"%!PS-Adobe-3", "utf-16be": b"\xfe\xffab", "utf-16le": b"\xff\xfeab",
    "utf-8": b"\xef\xbb\xbfab", "icon": b"\0\0\1\0", "cursor": b"\0\0\2\0", "bmp": b"BMx", "gif": b"GIF89ax",
    "webp": b"RIFFxxxxWEBPVP", "png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xffx", "aiff": b"FORMxxxxAIFF",
    "mp3": b"ID3x", "ogg": b"OggS\0", "midi": b"MThd\0\0\0\6", "avi": b"RIFFxxxxAVI ", "wave": b"RIFFxxxxWAVE",
    "mp4": b"\0\0\0\x10ftypmp42\0\0\0\0", "mp4 by a compatible brand": b"\0\0\0\x18ftypisom\0\0\0\0xxxxmp41",
    "other box": b"\0\0\0\x10ftypisom\0\0\0\0", "box with a bad length": b"\0\0\0\x11ftypmp42\0\0\0\0\0",
    "webm": b"\x1aE\xdf\xa3", "ttf": b"\0\1\0\0", "otf": b"OTTO", "ttc": b"ttcf", "woff": b"wOFF", "woff2": b"wOF2",
    "eot": bytes(34) + b"LP", "gzip": b"\x1f\x8b\x08x", "zip": b"PK\3\4", "rar": b"Rar!\x1a\7\0",
    "rar5": b"Rar!\x1a\7\1\0", "wasm": b"\0asm", "escape character": b"a\x1bb", "control character": b"a\x01b",
    "delete character": b"a\x7fb", "control character at 512": b"a" * 512 + b"\0",
    "control character at 511": b"a" * 511 + b"\0", "other letters": "\u00ef".encode(), "high bytes": b"\xff\x80",
    "one byte": b"a",
}  # fmt: skip


def both(key: int, name: str, data: bytes) -> Iterator[Case]:
    yield put(f"{name}, put", f"{fid(key)}?{TS}", data, "Content-Type: application/octet-stream")
    yield get(name, fid(key))


CASES = [
    *[case for number, name in enumerate(CONTENT) for case in both(0x0700 + number, name, CONTENT[name])],
    put("text, put", f"{fid(0x0780)}?{TS}", b"abc\x00def", "Content-Type: application/octet-stream"),
    get("type of the range that is sent", fid(0x0780), "Range: bytes=0-2"),
    get("type of another range", fid(0x0780), "Range: bytes=2-4"),
    get("several ranges of unknown type", fid(0x0780), "Range: bytes=0-1,4-5"),
]
