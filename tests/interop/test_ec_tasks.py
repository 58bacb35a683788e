"""Encodes, rebuilds and decodes of a real node while they are under way: who sees them, and what is left when they are
given up. And what is known of shards after a rebuild."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.cluster import Master, Volumed
from tests.grpc_kit import RPC_TIMEOUT_S, Call, Node, Put, allocate, rpc
from tests.metrics_kit import scrape
from tests.processes import free_port, wait_until
from tests.web import get
from volumed.wire import volume_server_pb2 as pb

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

COOKIE = "c0ffee11"
OBJECT = random.Random(1).randbytes(4_000_000)
OBJECTS = 8
SHARDS = range(14)
LIMIT_S = 120.0
"""Shards are computed by a process that everybody else goes before."""
TRIES = 20
ENCODE, REBUILD, DECODE = "VolumeEcShardsGenerate", "VolumeEcShardsRebuild", "VolumeEcShardsToVolume"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    home = tmp_path_factory.mktemp("tasks")
    with (
        Master(home / "m") as master,
        Volumed(home / "v", master=master, dirs=[home / "d"], flags=[f"-metricsPort={free_port()}"]) as server,
        Node(server) as node,
    ):
        yield node


def fill(node: Node, volume_id: int) -> None:
    node.run(allocate(volume_id))
    for key in range(1, OBJECTS + 1):
        assert node.run(Put(f"{volume_id},{key:x}{COOKIE}", OBJECT)) == 201


def path_of(node: Node, name: str) -> Path:
    return node.server.dirs[0] / name


def files(node: Node, volume_id: int) -> dict[str, int]:
    """Names and lengths; a `.vif` has any length. Files may come and go."""
    found = {}
    for path in node.server.dirs[0].glob(f"{volume_id}.*"):
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = -1 if path.suffix == ".vif" else path.stat().st_size
    return found


def coding_process(node: Node, title: str) -> list[int]:
    """Its id; it has the title as an argument first, and then as its name."""
    return [pid for pid in node.server.pids() if title.encode() in command(pid).rstrip(b"\0").split(b"\0")]


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def give_up(node: Node, call: Call, title: str, unfinished: str) -> None:
    """Begin, cancel as soon as there is a file that ends so, with the coding process held, and wait until nothing is
    done any more. On a slow machine it may be done before it is cancelled."""
    begun = getattr(node.stub, call.rpc).future(call.message, timeout=RPC_TIMEOUT_S)

    def is_under_way() -> bool:
        return any(name.endswith(unfinished) for name in files(node, call.message.volume_id))

    wait_until(
        lambda: begun.done() or bool(is_under_way() and coding_process(node, title)), timeout_s=LIMIT_S, what=title
    )
    signal_all(coding_process(node, title), signal.SIGSTOP)
    begun.cancel()
    wait_until(
        lambda: not is_under_way() and not coding_process(node, title), timeout_s=LIMIT_S, what=f"the end of {title}"
    )


def cancel_when_begun(node: Node, call: Call, unfinished: str) -> None:
    """Cancel as soon as there is this file, or it is done."""
    begun = getattr(node.stub, call.rpc).future(call.message, timeout=RPC_TIMEOUT_S)
    wait_until(lambda: begun.done() or path_of(node, unfinished).exists(), timeout_s=LIMIT_S, what=unfinished)
    begun.cancel()


def test_an_encode_that_is_cancelled_leaves_nothing_and_the_volume_free(node: Node) -> None:
    fill(node, 1)
    before = files(node, 1)
    for _ in range(TRIES):
        give_up(node, rpc(ENCODE, 1), "volumed: encode volume 1", ".encoding")
        if files(node, 1) == before:
            break
    assert files(node, 1) == before
    assert node.run(rpc(ENCODE, 1)) == {}
    assert set(files(node, 1)) > set(before)


def test_an_operation_that_is_under_way_is_seen(node: Node) -> None:
    fill(node, 6)
    title = "volumed: encode volume 6"
    for _ in range(TRIES):
        begun = node.stub.VolumeEcShardsGenerate.future(rpc(ENCODE, 6).message, timeout=RPC_TIMEOUT_S)
        wait_until(lambda b=begun: b.done() or bool(coding_process(node, title)), timeout_s=LIMIT_S, what=title)
        held = coding_process(node, title)
        signal_all(held, signal.SIGSTOP)
        wait_until(lambda b=begun: b.done() or seen(node, 6) == (True, True), timeout_s=LIMIT_S, what="the task")
        if not begun.done():
            break
    else:
        pytest.fail("all were done before they could be seen")
    signal_all(held, signal.SIGCONT)
    begun.result()
    wait_until(lambda: seen(node, 6) == (False, False), timeout_s=LIMIT_S, what="the end of the task")


def seen(node: Node, volume_id: int) -> tuple[bool, bool]:
    """Whether metrics and status page tell of an encode."""
    (flag,) = node.server.flags
    labels = {"dir": str(node.server.dirs[0]), "task": "encode", "volume": str(volume_id), "type": "all"}
    metrics = scrape(int(flag.partition("=")[2]))
    page = get(node.server.address, "/ui/index.html").body.decode()
    is_shown = re.search(rf"<td>encode<td[^>]*>{volume_id}<td", page)
    return metrics.value("volumed_task_bytes", **labels) is not None, is_shown is not None


def test_after_an_encode_that_is_cancelled_the_next_one_can_begin_at_once(node: Node) -> None:
    fill(node, 2)
    cancel_when_begun(node, rpc(ENCODE, 2), "2.ecx.encoding")
    assert node.run(rpc(ENCODE, 2)) == {}
    assert not [name for name in files(node, 2) if name.endswith(".encoding")]


def test_a_rebuild_that_is_cancelled_leaves_the_shards_as_they_were(node: Node) -> None:
    fill(node, 3)
    assert node.run(rpc(ENCODE, 3)) == {}
    whole = files(node, 3)
    before = {name: length for name, length in whole.items() if name not in ("3.ec00", "3.ec05", "3.ec13")}
    for _ in range(TRIES):
        for name in whole.keys() - before.keys():
            path_of(node, name).unlink(missing_ok=True)
        give_up(node, rpc(REBUILD, 3), "volumed: rebuild volume 3", ".rebuilding")
        if files(node, 3) == before:
            break
    assert files(node, 3) == before
    assert node.run(rpc(REBUILD, 3)) == {"rebuiltShardIds": [0, 5, 13]}
    assert files(node, 3) == whole


def test_a_decode_that_is_cancelled_leaves_no_volume(node: Node) -> None:
    """It has no process of its own that could be held, and may be done before it is cancelled."""
    fill(node, 4)
    assert node.run(rpc(ENCODE, 4)) == {}
    assert node.run(rpc("VolumeUnmount", 4)) == {}
    for name in ("4.dat", "4.idx"):
        path_of(node, name).unlink()
    assert node.run(rpc("VolumeEcShardsMount", 4, shard_ids=SHARDS)) == {}
    cancel_when_begun(node, rpc(DECODE, 4), "4.dat.decoding")
    # It waits for the end of the other one.
    assert node.run(rpc(DECODE, 4)) == {}
    assert not [name for name in files(node, 4) if name.endswith(".decoding")]
    assert node.run(rpc("VolumeMount", 4)) == {}
    answer = get(node.server.address, f"/4,{OBJECTS:x}{COOKIE}")
    assert (answer.status, answer.body) == (200, OBJECT)


def test_a_short_shard_that_was_rebuilt_is_right_also_where_it_is_mounted(node: Node) -> None:
    fill(node, 5)
    assert node.run(rpc(ENCODE, 5)) == {}
    lengths = {name: path_of(node, name).stat().st_size for name in ("5.ec00", "5.ec01")}
    os.truncate(path_of(node, "5.ec00"), 500)
    assert node.run(rpc("VolumeEcShardsMount", 5, shard_ids=SHARDS)) == {}
    scrub = Call("ScrubEcVolume", pb.ScrubEcVolumeRequest(mode=pb.VolumeScrubMode.LOCAL, volume_ids=[5]))
    assert node.run(scrub)["brokenVolumeIds"] == [5]
    assert node.run(rpc(REBUILD, 5)) == {"rebuiltShardIds": [0]}
    assert "brokenVolumeIds" not in node.run(scrub)
    found = node.run(rpc("VolumeEcShardsInfo", 5))["ecShardInfos"]
    assert int(found[0]["size"]) == lengths["5.ec01"]
