"""Requests for a volume that only the other server of a cluster has, in each read mode (http.md 3.2, 4.7, 5).

The reference is asked for what volumed has, volumed for what the reference has: the answers must be equal.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.interop.differential.intended import EXPECTED
from tests.interop.differential.kit import TEXT, TS, WHEN, ZIPPED, Case, delete, fid, get, head, post, public, put
from tests.interop.differential.servers import Answers
from tests.interop.differential.wire import Answer, differences, exchange
from tests.processes import HOST, free_port, wait_until
from tests.web import get as fetch
from volumed.wire import volume_server_pb2 as pb
from volumed.wire import volume_server_pb2_grpc

pytestmark = pytest.mark.interop

MODES = ("proxy", "redirect", "local")
ON_REFERENCE, ON_OURS = 11, 12
VOLUME = re.compile(rb"\b1[12](?=,|/)|(?<=volume )1[12]\b")
GZIP = "Accept-Encoding: gzip"
RPC_TIMEOUT_S = 60


def stored(volume: int) -> list[Case]:
    """What the holder is given."""
    return [
        put("plain", f"{fid(1, volume)}?{TS}", b"needle", "Seaweed-Mood: dull"),
        put("gzipped", f"{fid(2, volume)}.txt?{TS}", ZIPPED, "Content-Encoding: gzip"),
        put("empty", f"{fid(3, volume)}?{TS}", b""),
        put("large", f"{fid(4, volume)}?{TS}", bytes(range(256)) * 6000),
        put("deleted", f"{fid(5, volume)}?{TS}", b"deleted"),
        delete("delete", fid(5, volume)),
    ]


def cases(volume: int) -> list[Case]:
    """What the other is asked."""
    file, zipped, empty, large, deleted, new = (fid(key, volume) for key in range(1, 7))
    slashed = file.replace(",", "/")
    return [
        get("plain", file, GZIP),
        get("extension", f"{file}.css", GZIP),
        get("slashes", slashed, GZIP),
        get("slashes and extension", f"{slashed}.css", GZIP),
        get("name", f"{slashed}/a%20b.css", GZIP),
        get("escaped", file.replace(",", "%2C"), GZIP),
        get("query", f"{file}?dl=true&response-expires=a%20b%2B&x&y=", GZIP),
        get("repeated query", f"{file}?response-expires=2&response-expires=1&a=1", GZIP),
        get("bad query", f"{file}?a=%zz&dl=true", GZIP),
        get("collection", f"{file}?collection=a%20b%26&readDeleted=true", GZIP),
        get("origin", file, GZIP, "Origin: http://x"),
        get("range", file, GZIP, "Range: bytes=1-2"),
        get("bad range", file, GZIP, "Range: bytes=x"),
        get("range behind the end", file, GZIP, "Range: bytes=99-"),
        get("several ranges", file, GZIP, "Range: bytes=0-1,3-4"),
        get("modified since", file, GZIP, f"If-Modified-Since: {WHEN}"),
        get("gzipped", zipped, GZIP),
        get("gzipped, another encoding", zipped, "Accept-Encoding: identity"),
        get("empty", empty, GZIP),
        get("large", large, GZIP),
        get("large, range", large, GZIP, "Range: bytes=1048570-1048580"),
        get("deleted", deleted, GZIP),
        get("deleted, asked for", f"{deleted}?readDeleted=true", GZIP),
        get("unknown", new, GZIP),
        get("another cookie", fid(1, volume, "aaaaaaab"), GZIP),
        get("bad id", f"/{volume},zz", GZIP),
        get("unknown volume", f"/99{file[3:]}", GZIP),
        head("head", file, GZIP),
        head("head, range", file, GZIP, "Range: bytes=1-2"),
        head("head, gzipped", zipped, GZIP),
        head("head, large", large, GZIP),
        head("head, unknown", new, GZIP),
        public(get("public", file, GZIP)),
        public(head("public, head", file, GZIP)),
        get("proxied already", f"{file}?proxied=true", GZIP),
        get("without an encoding", file),
        get("gzipped, without an encoding", zipped),
        put("put", f"{new}?{TS}", b"new", "Content-Type: text/x", "Seaweed-A: b"),
        get("what was put", new, GZIP),
        put("put replicated", f"{new}?type=replicate", b"new"),
        put("put to another cookie", f"{fid(6, volume, 'aaaaaaab')}?{TS}", b"new"),
        post("post a form", f"{new}?{TS}&ttl=3d", TEXT, "Content-Type: multipart/form-data"),
        put("put to an unknown volume", f"/99{file[3:]}", b"x"),
        delete("delete", file),
        delete("delete, another cookie", fid(1, volume, "aaaaaaab")),
        get("not deleted", file, GZIP),
    ]


class Both(NamedTuple):
    """What the two say to the same."""

    reference: Answers
    ours: Answers


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Both]:
    """By read mode."""
    home = tmp_path_factory.mktemp("elsewhere")
    with ThreadPoolExecutor(len(MODES)) as pool:
        return dict(zip(MODES, pool.map(lambda mode: run_cluster(home / mode, mode), MODES), strict=True))


def run_cluster(home: Path, mode: str) -> Both:
    for part in ("master", "reference", "ours"):
        (home / part).mkdir(parents=True)
    publics = [free_port(), free_port()]
    flags = [[f"-readMode={mode}", f"-port.public={port}"] for port in publics]
    with (
        Master(home / "master") as master,
        WeedVolume(home / "reference", master=master, flags=flags[0]) as reference,
        Volumed(home / "ours", master=master, flags=flags[1]) as ours,
    ):
        fill(master, reference, ON_REFERENCE)
        fill(master, ours, ON_OURS)
        return Both(
            ask(reference.address, f"{HOST}:{publics[0]}", ON_OURS),
            ask(ours.address, f"{HOST}:{publics[1]}", ON_REFERENCE),
        )


def fill(master: Master, holder: VolumeServer, volume: int) -> None:
    with grpc.insecure_channel(holder.grpc_address) as channel:
        stub: Any = volume_server_pb2_grpc.VolumeServerStub(channel)
        allocation = pb.AllocateVolumeRequest(volume_id=volume, replication="000", version=3)
        stub.AllocateVolume(allocation, timeout=RPC_TIMEOUT_S)
    for case in stored(volume):
        (answer,) = exchange(holder.address, case)
        assert " 20" in answer.status, f"{case.name}: {answer}"
    lookup = f"/dir/lookup?volumeId={volume}"
    wait_until(lambda: fetch(master.address, lookup).status == 200, timeout_s=30, what=lookup)


def ask(address: str, public_address: str, volume: int) -> Answers:
    return {
        case.name: [in_any_volume(answer) for answer in exchange(public_address if case.public else address, case)]
        for case in cases(volume)
    }


def in_any_volume(answer: Answer) -> Answer:
    """Without the volume id."""
    headers = {
        name: VOLUME.sub(b"VOLUME", value.encode("latin-1")).decode("latin-1") for name, value in answer.headers.items()
    }
    return Answer(answer.status, headers, VOLUME.sub(b"VOLUME", answer.body))


@pytest.mark.parametrize("mode", MODES)
def test_the_answers_are_equal(mode: str, answers: dict[str, Both]) -> None:
    both, prefix = answers[mode], f"elsewhere, {mode}: "
    found = {prefix + name: differences(both.reference[name], both.ours[name]) for name in both.reference}
    expected = {name: differs for name, differs in EXPECTED.items() if name.startswith(prefix)}
    assert {name: differs for name, differs in found.items() if differs} == expected
