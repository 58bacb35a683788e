"""A scripted history of one data directory, in two parts, and the questions asked about it afterwards.

File ids, times and contents are fixed, so that two servers that play it write the same bytes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tests.web import multipart, request
from volumed.wire import volume_server_pb2 as pb

__all__ = ["COMPRESSING", "DROPPED", "FIRST", "SECOND", "VOLUMES", "Answer", "Step", "ask", "questions"]

COOKIE = "5a17c3d4"
OTHER_COOKIE = "0badc0de"
BINARY = "application/octet-stream"
COMPRESSING = 4
"""Volume of texts that the server compresses: compressors differ, so its bytes do too."""

VOLUMES = [
    pb.AllocateVolumeRequest(volume_id=1, version=3),
    pb.AllocateVolumeRequest(volume_id=2, version=3, collection="pics"),
    pb.AllocateVolumeRequest(volume_id=3, version=3, collection="a_b", ttl="7d"),
    pb.AllocateVolumeRequest(volume_id=COMPRESSING, version=3),
    pb.AllocateVolumeRequest(volume_id=5, version=3),
]


class Step(NamedTuple):
    """One request. ``path`` starts with the file id, without the slash."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = {}


Answer = tuple[int, list[tuple[str, str]], bytes]
DROPPED: Answer = (0, [], b"connection dropped")


def noise(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def fid(volume: int, key: int, cookie: str = COOKIE) -> str:
    return f"{volume},{key:02x}{cookie}"


def put(path: str, data: bytes, query: str = "", **headers: str) -> Step:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Step("PUT", f"{path}?{query or 'ts=1700000000'}", data, named)


def form(path: str, data: bytes, name: str, mime: str = "", query: str = "ts=1700000000", *part: str) -> Step:
    body, headers = multipart(data, filename=name, mime=mime, part_headers=part)
    return Step("POST", f"{path}?{query}", body, headers)


def drop(path: str) -> Step:
    return Step("DELETE", path)


def manifest(*parts: tuple[int, int]) -> bytes:
    """A chunk manifest of (key, length) chunks in volume 5."""
    chunks, offset = [], 0
    for key, length in parts:
        chunks.append({"fid": fid(5, key), "offset": offset, "size": length})
        offset += length
    return json.dumps({"name": "whole.bin", "mime": "image/x-w", "size": offset, "chunks": chunks}).encode()


PAIRS = {"Seaweed-Color": "red & <b>", "Seaweed-x-long-name": "v2"}
MD5 = base64.b64encode(hashlib.md5(b"md5").digest()).decode()
TEXT = b"the quick brown fox jumps over the lazy dog. " * 200

FIRST = [
    # names and types
    put(fid(1, 1), b"raw, no type"), put(fid(1, 2), b"raw", Content_Type="text/x-me; charset=latin-1"),
    form(fid(1, 3), b"named", "notes.log", "text/plain"), form(fid(1, 4), noise(300),
    "blob.bin", "application/octet-stream"),
    form(fid(1, 5), b"\x89PNG no picture", "p.PNG", "application/octet-stream"), form(fid(1, 6),
    b"x", "naïve name.dat"),
    form(fid(1, 7), b"y", "n" * 300, "application/" + "m" * 300), form(fid(1, 8), b"z", "c:\\dir\\w.css", "text/css"),
    put(fid(1, 9) + ".jpg", b"with extension"), put(fid(1, 10),
    b"disposed", Content_Disposition='inline; filename="q r.txt"'),
    # what is compressed already
    put(fid(1, 11), gzip.compress(TEXT, mtime=0), Content_Encoding="gzip", Content_Type="text/plain"),
    form(fid(1, 12), gzip.compress(noise(99), mtime=0),
    "z.dat", "application/x-z", "ts=1700000001", "Content-Encoding: gzip"),
    put(fid(1, 13), b"no gzip at all", Content_Encoding="gzip"),
    # times to live, pairs, checksums, sizes, keys
    put(fid(1, 14), b"ttl", "ts=1700000002&ttl=7d"), put(fid(1, 15), b"ttl", "ts=1700000002&ttl=90m"),
    put(fid(1, 16), b"bad ttl", "ts=1700000002&ttl=zz"), Step("PUT", fid(1, 17) + "?ts=1700000003", b"pairs", PAIRS),
    put(fid(1, 18), b"md5", "ts=5", Content_MD5=MD5), put(fid(1, 0x18), b"not md5", "ts=5", Content_MD5=MD5),
    put(fid(1, 19), b"", "ts=1700000000"),
    form(fid(1, 20), b"", "empty.txt", "text/plain"), put("1,ffffffffffffffff" + COOKIE, b"largest key"),
    put(fid(1, 21) + "_3", b"delta"), *[put(fid(1, 0x100 + n), noise(n)) for n in range(1, 18)],
    put(fid(1, 0x120), noise(70_000)), put(fid(1, 0x121), noise((1 << 20) + 12_345)), put(fid(1, 0x122),
    noise(3 << 20)),
    # overwritten, unchanged, deleted, created again
    put(fid(1, 0x30), b"first"), put(fid(1, 0x30), b"second", "ts=1700000009"), put(fid(1, 0x31), b"same"),
    put(fid(1, 0x31), b"same", "ts=1700000010"), put(fid(1, 0x32), b"gone"), drop(fid(1, 0x32)), drop(fid(1, 0x32)),
    put(fid(1, 0x33), b"back"), drop(fid(1, 0x33)), put(fid(1, 0x33), b"back"), put(fid(1, 0x34), b"cookie"),
    drop(fid(1, 0x34)),
    put(fid(1, 0x34, OTHER_COOKIE), b"wrong cookie"), put(fid(1, 1, OTHER_COOKIE), b"wrong cookie"),
    drop(fid(1, 1, OTHER_COOKIE)), drop(fid(1, 0x99)), drop(fid(9, 1)), put(fid(9, 1), b"no such volume"),
    put(fid(1, 0x35), b"flushed", "ts=1700000000&fsync=true"), put(fid(1, 0x36), b"a replica", "ts=8&type=replicate"),
    put(fid(1, 0x37), b"erased by nothing"), put(fid(1, 0x37), b""), put(fid(1, 0x38), b""), drop(fid(1, 0x38)),
    # collections
    put(fid(2, 1), b"picture", Content_Type="image/png"), form(fid(2, 2), b"named", "a.gif"), put(fid(2, 3), b"x"),
    drop(fid(2, 3)),
    put(fid(3, 1), b"inherits its ttl"), put(fid(3, 2), b"own ttl", "ts=7&ttl=3h"), put(fid(3, 3), b"same"),
    put(fid(3, 3), b"same"),
    # compressed by the server
    form(fid(COMPRESSING, 1), TEXT, "big.txt", "text/plain"), put(fid(COMPRESSING, 2),
    TEXT, Content_Type="application/xml"),
    put(fid(COMPRESSING, 3), noise(5000), Content_Type="text/plain"), form(fid(COMPRESSING, 4), TEXT, "sniffed"),
    # chunk manifests: an octet stream stays as it is, others are compressed
    put(fid(5, 1), noise(1000)), put(fid(5, 2), noise(2000)), put(fid(5, 3), noise(30)),
    put(fid(5, 0x10), manifest((1, 1000), (2, 2000)), "cm=true&ts=1700000011", Content_Type=BINARY),
    put(fid(5, 0x11) + ".json", manifest((2, 2000), (3, 30)), "cm=true&ts=12", Content_Type=BINARY),
    put(fid(5, 0x12), manifest((0x77, 5)), "cm=true&ts=13", Content_Type=BINARY),
    put(fid(5, 0x13), b"no manifest", "cm=true&ts=14", Content_Type=BINARY),
    form(fid(COMPRESSING, 0x10), manifest((2, 2000), (3, 30)), "m.json", "application/json", "cm=true&ts=12"),
]  # fmt: skip

SECOND = [
    put(fid(1, 1), b"overwritten by the other"), put(fid(1, 0x31), b"same"), drop(fid(1, 3)), drop(fid(1, 19)),
    put(fid(1, 0x32), b"created again"), put(fid(1, 0x33, OTHER_COOKIE), b"wrong cookie"), drop(fid(1, 0x122)),
    put(fid(1, 0x40), b"new", "ts=1700000020&fsync=true"), form(fid(1, 0x41), noise(9), "f.pdf"), put(fid(1, 0x38),
    b"no longer empty"),
    put(fid(2, 1), b"another picture", Content_Type="image/png"), drop(fid(2, 2)), put(fid(2, 4), b"fresh"),
    put(fid(3, 4), b"later", "ts=21"), drop(fid(3, 1)), put(fid(COMPRESSING, 1),
    TEXT + b"!", Content_Type="text/plain"),
    drop(fid(COMPRESSING, 2)), drop(fid(5, 0x10)), put(fid(5, 1), noise(1000)),
]  # fmt: skip


def questions() -> Iterator[Step]:
    """What is asked about every file id of the history, and about some that it never used."""
    paths = [step.path.partition("?")[0].partition(".")[0] for step in [*FIRST, *SECOND]]
    unknown = [fid(1, 0x99), fid(1, 2, OTHER_COOKIE), fid(1, 19, OTHER_COOKIE), fid(9, 1), fid(5, 0x12), fid(1, 24)]
    for path in dict.fromkeys([*paths, *unknown]):
        yield Step("GET", path)
        yield Step("HEAD", path)
        yield Step("GET", path, None, {"Accept-Encoding": "gzip"})
        yield Step("GET", path, None, {"Range": "bytes=1-4"})
        yield Step("GET", path + "?readDeleted=true")
        yield Step("GET", path + "?cm=false&dl=true")
        yield Step("GET", path.replace(",", "/") + "/other%20name.css")
        yield Step("GET", path, None, {"If-Modified-Since": "Tue, 14 Nov 2023 22:13:25 GMT"})


def ask(address: str, steps: Iterable[Step]) -> dict[str, Answer]:
    """The comparable answer to every step, by a readable name of the step."""
    return {
        f"{number}: {step.method} {step.path} {dict(step.headers) if step.body is None else ''}": _answer(address, step)
        for number, step in enumerate(steps)
    }


def _answer(address: str, step: Step) -> Answer:
    """Status, headers without those that differ every time, and body without the node's own address."""
    try:
        answer = request(step.method, address, f"/{step.path}", body=step.body, headers=step.headers)
    except (ConnectionError, http.client.IncompleteRead):
        return DROPPED
    volatile = {"date", "x-amz-request-id"}
    headers = sorted((name.lower(), text) for name, text in answer.headers.items() if name.lower() not in volatile)
    return answer.status, headers, answer.body.replace(address.encode(), b"NODE")
