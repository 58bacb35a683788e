"""Following a volume between ``weed volume`` and volumed, in both directions: afterwards both say the same."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.grpc_kit import RPC_TIMEOUT_S, Call, Node, Put, allocate, batch_delete, mount, readonly, writable
from tests.web import get
from volumed.formats.idx import iter_rows
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

TRUSTING = ("-volume.allowUntrustedRemoteEndpoints",)
BINARY = {"Content-Type": "application/x-thing"}
NOTHING_NEW = (b"", 0, b"", True, 3)
PIECE_BYTES = 2 << 20
PADDING_MAX = 20
"""With checksum and time."""
MANIFEST = json.dumps({"name": "m", "mime": "text/plain", "size": 3, "chunks": []}).encode()
FOLLOWED, EMPTY = 5, 6

BEFORE = [
    Put("5,0111111111?ts=1700000000", b"first", BINARY),
    Put("5,0222222222?ts=1700000000", b"to be deleted", BINARY),
    Put("5,0333333333?ts=1700000000", b"to be overwritten", BINARY),
]
AFTER = [
    Put("5,0444444444?ts=1700000001", gzip.compress(b"words " * 99, mtime=0), BINARY | {"Content-Encoding": "gzip"}),
    Put("5,0555555555?ts=1700000002", b""),
    batch_delete("5,0222222222"),
    Put("5,0333333333?ts=1700000003", b"overwritten", BINARY | {"Seaweed-Colour": "red"}),
    Put("5,0666666666?ts=1700000004&ttl=5d", b"for some days", BINARY),
    Put("5,0777777777?ts=1700000005&cm=true", MANIFEST, BINARY),
    Put("5,0888888888?ts=1700000006", bytes(range(256)) * (5 << 12), BINARY),
    Put("5,0999999999?ts=1700000007", b"deleted and written again", BINARY),
    batch_delete("5,0999999999"),
    Put("5,0999999999?ts=1700000008", b"written again", BINARY),
]  # fmt: skip
PATHS = [f"/5,0{digit}{digit * 8}" for digit in "123456789"]
DELETED = PATHS[1]


def tail(source: VolumeServer, volume_id: int = FOLLOWED, since_ns: int = 0, idle_s: int = 1) -> Call:
    return Call(
        "VolumeTailReceiver",
        pb.VolumeTailReceiverRequest(
            volume_id=volume_id,
            since_ns=since_ns,
            idle_timeout_seconds=idle_s,
            source_volume_server=source.peer_address,
        ),
    )


def sent(node: Node, volume_id: int, since_ns: int = 0) -> list[pb.VolumeTailSenderResponse]:
    request = pb.VolumeTailSenderRequest(volume_id=volume_id, since_ns=since_ns, idle_timeout_seconds=1)
    return list(node.stub.VolumeTailSender(request, timeout=RPC_TIMEOUT_S))


def at_once(work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Results in order: most of the time of a tail is waiting."""
    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(lambda each: work(*each), arguments))


def shape(message: pb.VolumeTailSenderResponse) -> tuple[bytes, int, bytes, bool, int]:
    """All of a message but clocks and padding."""
    size = int.from_bytes(message.needle_header[12:], "big")
    data = message.needle_body[:size] if len(message.needle_body) >= size else message.needle_body[:-PADDING_MAX]
    return message.needle_header, len(message.needle_body), data, message.is_last_chunk, message.version


def append_time(message: pb.VolumeTailSenderResponse) -> int:
    size = int.from_bytes(message.needle_header[12:], "big")
    return int.from_bytes(message.needle_body[size + 4 : size + 12], "big")


def content(server: VolumeServer) -> dict[str, Any]:
    """What a client sees of the needles."""
    seen = {}
    for path in PATHS:
        answer = get(server.address, path)
        names = ("Content-Type", "Content-Encoding", "Last-Modified", "ETag", "Seaweed-Colour", "X-File-Store")
        seen[path] = (answer.status, answer.body, {name: answer.headers.get(name) for name in names})
    return seen


def rows(server: VolumeServer) -> list[tuple[int, int, int]]:
    return list(iter_rows((server.dirs[0] / f"{FOLLOWED}.idx").read_bytes()))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """The reference and ours, each with two empty volumes."""
    home: Path = tmp_path_factory.mktemp("tail")
    with ExitStack() as stack:
        master = stack.enter_context(Master(home / "master"))
        nodes = [
            stack.enter_context(Node(stack.enter_context(kind(home / kind.__name__, master=master, flags=TRUSTING))))
            for kind in (WeedVolume, Volumed)
        ]
        yield nodes[0], nodes[1]


@pytest.fixture(params=["to volumed", "to weed"])
def pair(request: pytest.FixtureRequest, cluster: tuple[Node, Node]) -> tuple[Node, Node]:
    """Source and target with fresh volumes."""
    source, target = cluster if request.param == "to volumed" else reversed(cluster)
    fresh(source)
    fresh(target)
    return source, target


def fresh(node: Node) -> None:
    for volume_id in (FOLLOWED, EMPTY):
        node.run(Call("VolumeDelete", pb.VolumeDeleteRequest(volume_id=volume_id)))
        assert node.run(allocate(volume_id)) == {}


def run_all(node: Node, steps: list[Call | Put]) -> None:
    for step in steps:
        answer = node.run(step)
        assert answer in (201, 204) if isinstance(step, Put) else answer["results"][0]["status"] == 202, step


def test_a_followed_volume_is_the_same(pair: tuple[Node, Node]) -> None:
    source, target = pair
    run_all(source, BEFORE)
    run_all(target, BEFORE)
    run_all(source, AFTER)
    assert target.run(tail(source.server)) == {}
    found, wanted = content(target.server), content(source.server)
    if isinstance(target.server, WeedVolume):
        # It takes deletions for empty files.
        found[DELETED] = wanted[DELETED]
    assert found == wanted
    if isinstance(target.server, Volumed):
        # The first three came a second time, and there was nothing to store.
        assert rows(target.server) == rows(source.server)


def test_messages_are_the_same(cluster: tuple[Node, Node]) -> None:
    for node in cluster:
        fresh(node)
        run_all(node, BEFORE + AFTER)
    reference, ours = at_once(sent, [(node, FOLLOWED) for node in cluster])
    assert [shape(message) for message in ours] == [shape(message) for message in reference]
    assert any(len(message.needle_body) == PIECE_BYTES and not message.is_last_chunk for message in ours)
    assert shape(ours[-1]) == NOTHING_NEW
    # From the time of a record on come those behind it.
    from_fourth = [
        (node, FOLLOWED, append_time(all_[3])) for node, all_ in zip(cluster, (reference, ours), strict=True)
    ]
    from_the_end = [(node, FOLLOWED, 1 << 62) for node in cluster]
    *later, none, none_either = at_once(sent, from_fourth + from_the_end)
    for messages in later:
        assert [shape(message) for message in messages] == [shape(message) for message in ours[4:]]
    assert [shape(message) for message in none + none_either] == [NOTHING_NEW] * 2


def test_what_is_read_only_or_not_there(cluster: tuple[Node, Node]) -> None:
    for node in cluster:
        fresh(node)
        run_all(node, BEFORE)
    reference, ours = cluster
    unreachable = "127.0.0.1:1.2"
    for since_ns, volume_id in ((0, 99), (0, EMPTY)):
        assert ours.run(tail(reference.server, volume_id, since_ns)) == reference.run(
            tail(ours.server, volume_id, since_ns)
        )
    for node in cluster:
        request = pb.VolumeTailReceiverRequest(volume_id=FOLLOWED, source_volume_server=unreachable)
        assert node.run(Call("VolumeTailReceiver", request))[0] == "UNAVAILABLE"
        asked = pb.VolumeTailSenderRequest(volume_id=99)
        assert node.run(Call("VolumeTailSender", asked)) == ("UNKNOWN", "not found volume id 99")
    reference.run(Call("VolumeDelete", pb.VolumeDeleteRequest(volume_id=EMPTY)))
    assert ours.run(tail(reference.server, EMPTY)) == ("UNKNOWN", f"not found volume id {EMPTY}")
    run_all(reference, AFTER[:1])
    run_all(ours, AFTER[:1])
    for target, source in ((ours, reference), (reference, ours)):
        target.run(readonly(FOLLOWED))
        run_all(source, [Put("5,0aaaaaaaaa", b"too late", BINARY)])
        assert target.run(tail(source.server)) == ("UNKNOWN", f"volume {FOLLOWED} is read only")
        target.run(writable(FOLLOWED))


def test_another_cookie(pair: tuple[Node, Node]) -> None:
    source, target = pair
    run_all(source, [Put("5,0111111111", b"one", BINARY), Put("5,0222222222", b"two", BINARY)])
    run_all(target, [Put("5,0111111112", b"another", BINARY)])
    assert target.run(tail(source.server)) == ("UNKNOWN", "mismatching cookie 11111111")


def test_deletions_and_empty_files(cluster: tuple[Node, Node]) -> None:
    """P7: only to volumed, since the reference stores both as empty files."""
    source, target = cluster
    fresh(source)
    fresh(target)
    run_all(source, [Put("5,0111111111", b"one", BINARY), Put("5,0222222222", b""), batch_delete("5,0111111111")])
    assert target.run(tail(source.server)) == {}
    assert rows(target.server) == rows(source.server)
    unmount = Call("VolumeUnmount", pb.VolumeUnmountRequest(volume_id=FOLLOWED))
    for steps in ((), (unmount, mount(FOLLOWED))):
        assert [target.run(step) for step in steps] == [{}] * len(steps)
        assert [get(target.server.address, path).status for path in PATHS[:2]] == [404, 200]
