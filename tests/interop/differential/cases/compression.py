"""Compressed data: decided, stored, passed through, unpacked (http.md 3.7 and 4.4)."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

from tests.interop.differential.kit import TEXT, TS, ZIPPED, Case, delete, fid, form, get, head, put, zipped

GZIP, PARTLY, FAKE, PLAIN, MEMBERS, TAIL = (fid(0x0801 + number) for number in range(6))
TARGETS = {"gzip": GZIP, "broken": PARTLY, "fake": FAKE, "plain": PLAIN, "members": MEMBERS, "tail": TAIL}
ENCODINGS = ("br", "gzip;q=0", "br, gzip;q=0.5, *", "GZIP", "*", "x-gzip", "identity", "gzipped", "")
DISPOSITION = "Content-Disposition: form-data; name=file; filename={}"
BYTES = bytes(range(256)) * 8
"""Compressible, and no text."""

BY_TYPE = (
    "text/x", "TEXT/plain", "image/svg+xml", "image/png", "application/json", "application/xml",
    "application/atom+xml", "application/javascript", "application/x-script", "application/zstd",
    "application/x-zstd", "application/vnd.rar", "application/pdf", "audio/wave", "audio/wav", "audio/x-wav",
    "audio/x-pn-wav", "audio/mpeg", "video/mp4", "application/octet-stream", "nonsense/x", "text/html; charset=utf-8",
    "application/xml; charset=utf-8",
)  # fmt: skip
BY_NAME = (
    ".svg", ".bmp", ".wav", ".zip", ".rar", ".gz", ".bz2", ".xz", ".zst", ".br", ".pdf", ".txt", ".html", ".htm",
    ".css", ".js", ".json", ".php", ".java", ".go", ".rb", ".c", ".cpp", ".h", ".hpp", ".png", ".jpg", ".jpeg",
    "p.json", "p.txt", ".TXT", "noext",
)  # fmt: skip


def by_type(key: int, mime: str) -> Iterator[Case]:
    yield zipped(put(f"type {mime}", f"{fid(key)}?{TS}", BYTES, f"Content-Type: {mime}"))
    yield zipped(get(f"type {mime}, stored", fid(key), "Accept-Encoding: gzip"))


def by_name(key: int, name: str) -> Iterator[Case]:
    part = [DISPOSITION.format(name), "Content-Type: application/octet-stream"]
    yield zipped(form(f"name {name}", f"{fid(key)}?{TS}", part, BYTES))
    yield zipped(get(f"name {name}, stored", fid(key), "Accept-Encoding: gzip"))


CASES = [
    put("store gzip", f"{GZIP}?{TS}", ZIPPED, "Content-Encoding: gzip", "Content-Type: text/plain"),
    put("store a broken gzip", f"{PARTLY}?{TS}", ZIPPED[:-20], "Content-Encoding: gzip"),
    put("store what only starts like gzip", f"{FAKE}?{TS}", b"\x1f\x8bnothing", "Content-Encoding: gzip"),
    put("store what is no gzip", f"{PLAIN}?{TS}", b"nothing", "Content-Encoding: gzip"),
    put(
        "store two members",
        f"{MEMBERS}?{TS}",
        gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0),
        "Content-Encoding: gzip",
    ),
    put("store gzip and a tail", f"{TAIL}?{TS}", gzip.compress(b"one", mtime=0) + b"tail", "Content-Encoding: gzip"),
    *[get(f"{name}, unpacked", target) for name, target in TARGETS.items()],
    *[get(f"{name}, as it is", target, "Accept-Encoding: gzip") for name, target in TARGETS.items()],
    *[get(f"accepting {value}", GZIP, f"Accept-Encoding: {value}") for value in ENCODINGS],
    get("two headers, the second accepts", GZIP, "Accept-Encoding: br", "Accept-Encoding: gzip"),
    head("head, unpacked", GZIP),
    head("head, as it is", GZIP, "Accept-Encoding: gzip"),
    head("head, broken", PARTLY),
    get("range, unpacked", GZIP, "Range: bytes=3-8"),
    get("range, as it is", GZIP, "Range: bytes=3-8", "Accept-Encoding: gzip"),
    get("ranges, unpacked", GZIP, "Range: bytes=0-1,5-6"),
    get("ranges, as they are", GZIP, "Range: bytes=0-1,5-6", "Accept-Encoding: gzip"),
    get("range behind the packed end, unpacked", GZIP, "Range: bytes=1000-1003"),
    get("range behind the packed end, as it is", GZIP, "Range: bytes=1000-1003", "Accept-Encoding: gzip"),
    get("range of what is broken", PARTLY, "Range: bytes=0-1"),
    get("no range, as it is", GZIP, "Range: bytes=", "Accept-Encoding: gzip"),
    get("override of the encoding", f"{GZIP}?response-content-encoding=x", "Accept-Encoding: gzip"),
    get("by another name, as it is", GZIP.replace(",", "/") + "/a.html", "Accept-Encoding: gzip"),
    delete("size of what is packed", PARTLY),
    # packed by the server
    *[case for number, mime in enumerate(BY_TYPE) for case in by_type(0x0820 + number, mime)],
    *[case for number, name in enumerate(BY_NAME) for case in by_name(0x0840 + number, name)],
    zipped(put("sniffed text", f"{fid(0x0870)}?{TS}", TEXT)),
    zipped(get("sniffed text, stored", fid(0x0870), "Accept-Encoding: gzip")),
    put("raw octet-stream text", f"{fid(0x0871)}?{TS}", TEXT, "Content-Type: application/octet-stream"),
    get("raw octet-stream text, stored", fid(0x0871), "Accept-Encoding: gzip"),
    put("replicated text", f"{fid(0x0872)}?{TS}&type=replicate", TEXT),
    get("replicated text, stored", fid(0x0872), "Accept-Encoding: gzip"),
    put("short text", f"{fid(0x0873)}?{TS}", b"abc"),
    get("short text, stored", fid(0x0873), "Accept-Encoding: gzip"),
    zipped(put("packed by the server, the same again", f"{fid(0x0870)}?{TS}", TEXT)),
    zipped(head("packed by the server, head", fid(0x0870), "Accept-Encoding: gzip")),
    zipped(head("packed by the server, head unpacked", fid(0x0870))),
    zipped(get("packed by the server, range", fid(0x0870), "Range: bytes=40-50")),
    put("encoding in other letters", f"{fid(0x0874)}?{TS}", ZIPPED, "Content-Encoding: GZIP"),
    get("encoding in other letters, stored", fid(0x0874)),
    put("another encoding", f"{fid(0x0875)}?{TS}", b"x", "Content-Encoding: br"),
    get("another encoding, stored", fid(0x0875)),
    form("gzip in a part", f"{fid(0x0876)}?{TS}", [DISPOSITION.format("a.txt"), "Content-Encoding: gzip"], ZIPPED),
    get("gzip in a part, stored", fid(0x0876)),
    form("gzip beside a part", f"{fid(0x0877)}?{TS}", [DISPOSITION.format("a.bin")], ZIPPED, "Content-Encoding: gzip"),
    get("gzip beside a part, stored", fid(0x0877)),
    put("empty gzip", f"{fid(0x0878)}?{TS}", b"", "Content-Encoding: gzip"),
    get("empty gzip, stored", fid(0x0878)),
]
