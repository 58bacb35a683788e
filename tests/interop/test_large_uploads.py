"""Uploads that ours receives in pieces, beside the reference: the same volume files, and copies in both directions."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.large_kit import Pattern
from tests.records import masked_dat, walk_records
from tests.web import BOUNDARY, Response, get, get_json, multipart, request
from volumed.formats.needle import Needle, decode_record

pytestmark = pytest.mark.interop

NOISE = b"".join(Pattern((16 << 20) + 4321).read())
TEXT = b"".join(Pattern((17 << 20) + 5, text=True).read())
QUOTED = "Content-Transfer-Encoding: quoted-printable"
COOKIE = "aabbccdd"
keys = itertools.count(0x100)


class Cluster(NamedTuple):
    master: Master
    reference: WeedVolume
    ours: Volumed


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("large-uploads")
    with (
        Master(home / "m", volume_size_limit_mb=1024) as master,
        WeedVolume(home / "w", master=master, volumes_max=20) as reference,
        Volumed(home / "v", master=master, volumes_max=20) as ours,
    ):
        yield Cluster(master, reference, ours)


def volume_on(cluster: Cluster, server: VolumeServer, collection: str) -> str:
    """Id of the volume without copies that this server alone has."""
    if not (found := list(server.dirs[0].glob(f"{collection}_*.dat"))):
        where = f"collection={collection}&replication=000&dataNode={server.address}"
        get_json(cluster.master.address, f"/vol/grow?count=1&{where}")
        found = list(server.dirs[0].glob(f"{collection}_*.dat"))
    return found[0].stem.rpartition("_")[2]


def form(data: bytes, *part_headers: str, filename: str = "a.bin", mime: str = "") -> Callable[[str, str], Response]:
    body, headers = multipart(data, filename=filename, mime=mime, part_headers=part_headers)
    return lambda address, path: request("POST", address, path, body=body, headers=headers)


def raw(data: bytes, **headers: str) -> Callable[[str, str], Response]:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda address, path: request("PUT", address, path, body=data, headers=fields)


def two_parts(address: str, path: str) -> Response:
    """A field, a long part without a file name, and then the file; fields behind it count too."""
    part = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    body = b"".join(
        [
            f'{part}"x"\r\n\r\n'.encode(),
            NOISE[:1_500_000],
            f'\r\n{part}"file"; filename="late.txt"\r\nContent-Type: application/x-late\r\n\r\n'.encode(),
            NOISE,
            f'\r\n{part}"y"\r\n\r\nz\r\n--{BOUNDARY}--\r\n'.encode(),
        ]
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return request("POST", address, path, body=body, headers=headers)


UPLOADS: dict[str, Callable[[str, str], Response]] = {
    "raw": raw(NOISE, Content_Type="application/x-noise", Content_Disposition='attachment; filename="n.bin"'),
    "no type": raw(NOISE),
    "form": form(NOISE, mime="application/x-noise"),
    "two parts": two_parts,
    "gzip": form(gzip.compress(NOISE, 1, mtime=0), "Content-Encoding: gzip", mime="application/x-noise"),
    "no gzip": form(NOISE, "Content-Encoding: gzip"),
    "pairs": raw(NOISE, Content_Type="a/b", Seaweed_One="1", seaweed_two="zwei"),
    "quoted": form(b"=41=\r\n=4" + bytes.hex(NOISE, "\n", 30).encode(), QUOTED, mime="application/x-noise"),
}
QUERIES = {"pairs": "&ttl=3d", "raw": "&fsync=true"}


def upload_to(server: VolumeServer, volume_id: str, name: str, key: int) -> tuple[int, dict[str, object]]:
    path = f"/{volume_id},{key:x}{COOKIE}?ts=1700000000{QUERIES.get(name, '')}"
    answer = UPLOADS[name](server.address, path)
    return answer.status, json.loads(answer.body or b"{}")


def test_the_same_uploads_make_the_same_files(cluster: Cluster) -> None:
    """Each twice: the second one is unchanged."""
    contents, answers = [], []
    for server, collection in ((cluster.reference, "theirs"), (cluster.ours, "ours")):
        volume_id = volume_on(cluster, server, collection)
        answers.append(
            [upload_to(server, volume_id, name, key) for key, name in enumerate(UPLOADS, 1) for _ in range(2)]
        )
        contents.append(volume_bytes(server, f"{collection}_{volume_id}"))
    # A raw upload is called after its path, which has the volume's id.
    assert [without_name(answer) for answer in answers[0]] == [without_name(answer) for answer in answers[1]]
    assert [status for status, _ in answers[1]] == [201, 204] * len(UPLOADS)
    for ours, theirs in zip(needles(contents[1]), needles(contents[0]), strict=True):
        if b"," in ours.name:
            ours.name = ours.name.partition(b",")[2]
            theirs.name = theirs.name.partition(b",")[2]
        assert described(ours) == described(theirs)


def test_text_is_compressed_by_both(cluster: Cluster) -> None:
    found = []
    for server, collection in ((cluster.reference, "theirs"), (cluster.ours, "ours")):
        volume_id = volume_on(cluster, server, collection)
        path = f"/{volume_id},{0xFF:x}{COOKIE}"
        headers = {"Content-Type": "text/plain"}
        answer = request("PUT", server.address, path + "?ts=1700000000", body=TEXT, headers=headers)
        assert (answer.status, answer.json()["size"]) == (201, len(TEXT))
        plain = get(server.address, path)
        packed = get(server.address, path, headers={"Accept-Encoding": "gzip"})
        assert gzip.decompress(packed.body) == plain.body == TEXT
        assert len(packed.body) < len(TEXT) * 0.9
        head = request("HEAD", server.address, path)
        found.append((plain.headers["Content-Type"], plain.headers["Content-Length"], head.headers["Content-Length"]))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["two parts", "pairs", "text"])
@pytest.mark.parametrize("asked", ["ours", "reference"])
def test_copies_are_equal(cluster: Cluster, asked: str, name: str) -> None:
    first: VolumeServer = getattr(cluster, asked)
    where = "replication=001&collection=copied"
    fid = get_json(cluster.master.address, f"/dir/assign?{where}")["fid"]
    volume_id = fid.partition(",")[0]
    key = next(keys)
    if name == "text":
        path = f"/{volume_id},{key:x}{COOKIE}?ts=1700000000"
        answer = request("PUT", first.address, path, body=TEXT, headers={"Content-Type": "text/plain"})
        assert answer.status == 201
    else:
        assert upload_to(first, volume_id, name, key)[0] == 201
    files = [masked_dat(volume_bytes(server, f"copied_{volume_id}")) for server in (cluster.ours, cluster.reference)]
    assert files[0] == files[1]


@pytest.mark.parametrize("line", [b"x" * 4095, b"x" * 4096, b"=41" * 1365, b"x" * 4096 + b"\n", b"x" * 4095 + b"\n"])
def test_long_lines_of_quoted_printable(cluster: Cluster, line: bytes) -> None:
    answers = []
    key = next(keys)
    for server, collection in ((cluster.reference, "theirs"), (cluster.ours, "ours")):
        volume_id = volume_on(cluster, server, collection)
        answer = form(line, QUOTED)(server.address, f"/{volume_id},{key:x}{COOKIE}").json()
        answers.append((answer.get("error"), answer.get("size")))
    assert answers[0] == answers[1]


def volume_bytes(server: VolumeServer, name: str) -> bytes:
    return Path(server.dirs[0], f"{name}.dat").read_bytes()


def without_name(answer: tuple[int, dict[str, object]]) -> tuple[int, dict[str, object]]:
    status, fields = answer
    return status, {name: value for name, value in fields.items() if name != "name" or "," not in str(value)}


def needles(dat: bytes) -> list[Needle]:
    view = memoryview(dat)
    return [decode_record(view[span.offset :], 3, span.size, span.offset) for span in walk_records(dat)]


def described(needle: Needle) -> tuple[object, ...]:
    fields = (needle.key, needle.cookie, needle.flags, needle.name, needle.mime, needle.last_modified, needle.ttl)
    return (*fields, needle.pairs, needle.checksum, len(needle.data), needle.size - len(needle.name))
