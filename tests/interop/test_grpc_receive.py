"""Files that are sent to volumed: what must not be overwritten, what an interruption leaves, where files are staged."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import grpc
import pytest

from tests.cluster import Master, Volumed
from tests.grpc_kit import Call, Node, Put, allocate
from tests.processes import wait_until
from tests.pss import child
from tests.web import get
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

LONG_S = 60


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A server with two disks, and volume 1 on one of them."""
    home = tmp_path_factory.mktemp("receive")
    dirs = [home / "d0", home / "d1"]
    with Master(home / "m") as master, Volumed(home / "v", master=master, dirs=dirs) as server, Node(server) as node:
        for step in (allocate(1), Put("1,0111111111", b"some bytes")):
            node.run(step)
        yield node


def info(volume_id: int, ext: str, **fields: object) -> pb.ReceiveFileRequest:
    return pb.ReceiveFileRequest(info=pb.ReceiveFileInfo(volume_id=volume_id, ext=ext, **fields))


def content(data: bytes) -> pb.ReceiveFileRequest:
    return pb.ReceiveFileRequest(file_content=data)


def names(node: Node) -> set[str]:
    return {path.name for directory in node.server.dirs for path in directory.iterdir()} - {"vol_dir.uuid", "state.pb"}


VOLUME = {"1.dat", "1.idx", "1.vif"}


@pytest.mark.parametrize("ext", [".dat", ".idx", ".note", ".unavailable", ".cpc", ".cpd", ".cpx", ".ecx", ".ec00"])
def test_what_makes_a_mounted_volume_is_not_overwritten(node: Node, ext: str) -> None:
    answer = node.run(Call("ReceiveFile", [info(1, ext), content(b"nonsense")]))
    assert answer == {"error": f"volume 1 is mounted, its {ext} cannot be replaced"}
    assert names(node) == VOLUME
    assert get(node.server.address, "/1,0111111111").body == b"some bytes"


def test_large_messages_in_any_number_of_pieces(node: Node) -> None:
    data = os.urandom((5 << 20) + 1)
    pieces = [data[: 3 << 20], b"", data[3 << 20 :]]
    written = node.run(Call("ReceiveFile", [info(1, ".abc"), *map(content, pieces)]))
    assert written == {"bytesWritten": str(len(data))}
    (path,) = (directory / "1.abc" for directory in node.server.dirs if (directory / "1.abc").exists())
    assert path.read_bytes() == data
    path.unlink()


@pytest.mark.parametrize("victim", ["client", "grpc front", "worker"])
def test_an_interrupted_file_leaves_the_old_one(node: Node, victim: str) -> None:
    assert node.run(Call("ReceiveFile", [info(1, ".abc"), content(b"old")])) == {"bytesWritten": "3"}
    (path,) = (directory / "1.abc" for directory in node.server.dirs if (directory / "1.abc").exists())
    done = threading.Event()

    def messages() -> Iterator[pb.ReceiveFileRequest]:
        yield info(1, ".abc")
        yield content(b"new" * 1000)
        done.wait(LONG_S)

    call = node.stub.ReceiveFile.future(messages(), timeout=LONG_S)
    partial = path.with_name("1.abc.receiving")
    wait_until(lambda: partial.stat().st_size == 3000, timeout_s=LONG_S, what="a part of the file")
    if victim == "client":
        call.cancel()
    else:
        title = (
            "volumed: grpc front" if victim == "grpc front" else f"volumed: disk {node.server.dirs.index(path.parent)}"
        )
        os.kill(child(node.server, title), signal.SIGKILL)
    done.set()
    if victim == "worker":
        assert call.result().error
    else:
        with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
            call.result()
        wait_until(lambda: not partial.exists(), timeout_s=LONG_S, what="nothing of the new file")
    assert path.read_bytes() == b"old"
    wait_until(lambda: served(node), timeout_s=LONG_S, what="the node")
    path.unlink()
    partial.unlink(missing_ok=True)


def served(node: Node) -> bool:
    return node.run(Call("VolumeStatus", pb.VolumeStatusRequest(volume_id=1))).__class__ is dict


def test_files_of_an_absent_volume_are_staged_on_one_disk(node: Node) -> None:
    for ext in (".vif", ".dat", ".idx"):
        answer = node.run(Call("ReceiveFile", [info(9, ext, disk_type="hdd", collection="c"), content(b"123")]))
        assert answer == {"bytesWritten": "3"}
        node.run(allocate(20 + len(ext) + ord(ext[1])))
    staged = [{path.name for path in directory.glob("c_9*")} for directory in node.server.dirs]
    assert sorted(staged, key=len) == [set(), {"c_9.vif.copying", "c_9.dat.copying", "c_9.idx.copying"}]
