"""A front's view of disks that another process writes to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from volumed.config.node import DiskConfig, NodeConfig
from volumed.errors import DiskUnavailable
from volumed.formats.needle import decode_record
from volumed.nodetable import DiskState, NodeTable, create_node_table
from volumed.open_files import OpenFiles
from volumed.storage.fileio import File, FileIO
from volumed.storage.map_records import VolumeFlag, VolumeProgress, VolumeRecord
from volumed.storage.read_payload import pack_payload, unpack_payload
from volumed.storage.view import CACHED_READ_BYTES_MAX, Found, NodeView, ReadNow

_WRITER = """
import sys
from pathlib import Path
from tests.storage_kit import *
from volumed.bus.calls import *
rig = Rig(Path(sys.argv[1]))
print(rig.disk.map_path, flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class _Writer:
    """A process that owns a disk and evaluates what it is told."""

    def __init__(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.map_path = self._line()

    def do(self, expression: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        return self._line()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the writer ended"
        return line.strip()


class _Node:
    """Two disks with their writers, and a view of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writers = [_Writer(root / f"disk{i}") for i in range(2)]
        self.table: NodeTable = create_node_table(str(root / "table"), 2, 1)
        for row, writer in zip(self.table.disks, self.writers, strict=True):
            row.set_map_path(writer.map_path)
            row.start_epoch(1)
            row.set_state(DiskState.OK)
        self.table.changed()
        disks = tuple(DiskConfig(i, str(root / f"disk{i}"), str(root / f"disk{i}")) for i in range(2))
        self.files = _CountingFiles()
        self.config = NodeConfig(runtime_dir=str(root), map_dir="", state_dir="", disks=disks)
        self.view = NodeView(self.config, self.table, self.files)

    def set_state(self, disk: int, state: DiskState) -> None:
        self.table.disks[disk].set_state(state)
        self.table.changed()

    def read(self, volume_id: int, key: int, *, deleted: bool = False) -> ReadNow:
        """As `read_now`, once the file has been opened in the background."""
        deadline = time.monotonic() + 60
        while True:
            result = self.view.read_now(volume_id, key, deleted)
            if result.found is not Found.FORWARD or time.monotonic() > deadline:
                return result
            self.files.opened.wait(0.01)

    def close(self) -> None:
        self.view.close()
        for writer in self.writers:
            writer.kill()


class _CountingFiles(FileIO):
    """Remembers what was opened; can refuse what would need the disk."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.names: list[str] = []
        self.cold = False

    def open(self, path: str, *, writable: bool = True, create: bool = False) -> File:
        assert not writable
        self.names.append(Path(path).name)
        file = super().open(path, writable=writable, create=create)
        self.opened.set()
        return file

    def read_cached(self, file: File, offset: int, length: int) -> bytearray | None:
        return None if self.cold else super().read_cached(file, offset, length)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Node]:
    node = _Node(tmp_path_factory.mktemp("view"))
    yield node
    node.close()


@pytest.fixture
def node(shared: _Node) -> Iterator[_Node]:
    yield shared
    shared.files.cold = False
    for disk, writer in enumerate(shared.writers):
        shared.set_state(disk, DiskState.OK)
        writer.do("[rig.disk.delete(DeleteVolume(v)) for v in list(rig.disk.volumes)] and None")


def _data(result: ReadNow) -> bytes:
    assert result.handle is not None
    needle = decode_record(result.record, result.handle.record.version, result.size, result.offset)
    return bytes(needle.data)


def test_commits_of_the_worker_are_seen_at_once(node: _Node) -> None:
    one, _ = node.writers
    assert node.view.read_now(1, 5).found is Found.NO_VOLUME
    one.do("rig.allocate(1, collection='pics', ttl=259)")
    assert node.view.read_now(1, 5).found is Found.MISSING
    one.do("rig.store(put(5, b'hello'), put(6, b''))")
    result = node.read(1, 5)
    assert (result.found, _data(result)) == (Found.RECORD, b"hello")
    assert result.handle is not None
    assert (result.handle.disk_id, result.handle.record.collection, result.handle.record.ttl) == (0, "pics", 259)
    assert node.view.read_now(1, 6).found is Found.EMPTY
    one.do("rig.store(put(5, b'other'))")
    assert _data(node.read(1, 5)) == b"other"
    one.do("rig.store(delete(5))")
    assert node.view.read_now(1, 5).found is Found.DELETED
    assert _data(node.read(1, 5, deleted=True)) == b"other"


def test_the_handle_looks_needles_up(node: _Node) -> None:
    assert node.view.locate(1) is None
    node.writers[1].do("rig.allocate(1) or rig.store(put(5, b'hello'))")
    handle = node.view.locate(1)
    assert handle is not None
    assert (handle.disk_id, handle.lookup(5), handle.lookup(6)) == (1, (8, 17), None)
    node.writers[1].do("rig.disk.mark_readonly(MarkReadonly(1))")
    changed = node.view.locate(1)
    assert changed is not None
    assert changed.record.flags == VolumeFlag.NO_WRITE_OR_DELETE
    node.writers[1].do("rig.disk.unmount(1)")
    assert node.view.locate(1) is None


def test_the_lower_disk_wins_and_a_moved_volume_is_found(node: _Node) -> None:
    one, two = node.writers
    two.do("rig.allocate(1) or rig.store(put(5, b'two'))")
    assert _data(node.read(1, 5)) == b"two"
    one.do("rig.allocate(1) or rig.store(put(5, b'one'))")
    two.do("rig.disk.unmount(1)")
    assert _data(node.read(1, 5)) == b"one"


def test_a_disk_that_does_not_serve_is_not_touched(node: _Node) -> None:
    node.writers[0].do("rig.allocate(1) or rig.store(put(5, b'hello'))")
    assert node.read(1, 5).found is Found.RECORD
    node.set_state(0, DiskState.STUCK)
    with pytest.raises(DiskUnavailable):
        node.view.read_now(1, 5)
    with pytest.raises(DiskUnavailable):
        node.view.locate(1)
    node.set_state(0, DiskState.SLOW)
    assert node.read(1, 5).found is Found.RECORD


def test_a_replaced_file_is_opened_anew(node: _Node) -> None:
    (one, _) = node.writers
    one.do("rig.allocate(1) or rig.store(put(5, b'hello'))")
    assert _data(node.read(1, 5)) == b"hello"
    one.do("rig.disk.delete(DeleteVolume(1)) and rig.allocate(1) or rig.store(put(5, b'fresh'))")
    assert node.view.read_now(1, 5).found is Found.FORWARD
    assert _data(node.read(1, 5)) == b"fresh"


def test_a_file_that_is_not_the_one_in_the_map_is_not_read(node: _Node) -> None:
    (one, _) = node.writers
    one.do("rig.allocate(1) or rig.store(put(5, b'hello'))")
    dat = node.root / "disk0" / "data" / "1.dat"
    copy = dat.read_bytes()
    dat.rename(dat.with_suffix(".moved"))
    dat.write_bytes(copy)
    node.files.names.clear()
    node.view.read_now(1, 5)
    while not node.files.names:
        node.files.opened.wait(0.01)
    assert node.view.read_now(1, 5).found is Found.FORWARD
    dat.with_suffix(".moved").rename(dat)


def test_what_is_not_cached_or_too_long_is_forwarded(node: _Node) -> None:
    size = CACHED_READ_BYTES_MAX
    node.writers[0].do(f"rig.allocate(1) or rig.store(put(5, b'hello'), put(6, b'x' * {size}))")
    assert node.read(1, 5).found is Found.RECORD
    result = node.view.read_now(1, 6)
    assert (result.found, result.size) == (Found.FORWARD, size + 12)
    node.files.cold = True
    assert node.view.read_now(1, 5).found is Found.FORWARD


def test_unavailable_volumes_are_left_to_the_worker(node: _Node) -> None:
    node.writers[0].do("rig.allocate(1) or rig.store(put(5, b'hello'))")
    node.read(1, 5)
    node.writers[0].do("[rig.disk.volumes[1].make_unavailable('why'), rig.disk._publish([rig.disk.volumes[1]])]")
    assert node.view.read_now(1, 5).found is Found.FORWARD


def _open_files(root: Path) -> list[str]:
    """Files below ``root`` that this process holds open; what other tests left open does not count."""
    names = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return [name for name in names if name.startswith(f"{root}/")]


def test_files_of_volumes_that_are_gone_are_closed(node: _Node) -> None:
    node.writers[0].do("rig.allocate(1) or rig.store(put(5, b'hello'))")
    node.read(1, 5)
    assert any(name.endswith("/1.dat") for name in _open_files(node.root))
    node.writers[0].do("rig.disk.delete(DeleteVolume(1))")
    node.view.drop_stale_files()
    assert not any("/1.dat" in name for name in _open_files(node.root))


def test_only_so_many_files_stay_open(node: _Node) -> None:
    ids = range(1, 25)
    node.writers[0].do(f"[rig.allocate(v) or rig.store(put(1, b'x', volume_id=v)) for v in {list(ids)}] and None")
    node.view.close()
    two = OpenFiles(connections=1, volumes_per_disk=2, shards_per_disk=2)
    node.view = NodeView(node.config, node.table, node.files, two)
    for volume_id in ids:
        assert node.read(volume_id, 1).found is Found.RECORD
    assert sum(name.endswith(".dat") for name in _open_files(node.root)) == 2


def test_a_new_worker_is_followed(node: _Node) -> None:
    (one, _) = node.writers
    one.do("rig.allocate(1) or rig.store(put(5, b'hello'))")
    assert node.read(1, 5).found is Found.RECORD
    one.kill()
    node.table.disks[0].start_epoch(2)
    node.table.changed()
    with pytest.raises(DiskUnavailable):
        node.view.read_now(1, 5)
    node.writers[0] = _Writer(node.root / "disk0")
    node.set_state(0, DiskState.OK)
    assert _data(node.read(1, 5)) == b"hello"
    node.writers[0].do("rig.store(put(5, b'again'))")
    assert _data(node.read(1, 5)) == b"again"


def test_cached_reads_never_wait(tmp_path: Path) -> None:
    files = FileIO()
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    file = files.open(str(path), writable=False)
    assert files.read_cached(file, 8, 4) is None
    assert files.read_cached(file, 2, 4) in (b"2345", None)


def test_records_and_payloads_keep_their_values() -> None:
    low, path = VolumeFlag.DISK_SPACE_LOW, "/d/\udcff/1.dat"
    record = VolumeRecord(7, 3, 110, 259, low, 65535, 2**63, path, "bilder_ü", 2**32 - 1)
    assert VolumeRecord.decode(record.encode()) == record
    progress = VolumeProgress(
        1, 2, 3, 34, b"r" * 16, max_key=2**64 - 1, tail_size=-1, tail_offset=8, last_append_at_ns=2**62, map_id=9
    )
    assert VolumeProgress.decode(progress.encode(), 16) == progress
    assert tuple(unpack_payload(pack_payload(3, 2**32 - 1, 2**43, 17, b"xyz"))) == (3, 2**32 - 1, 2**43, 17, b"xyz")
