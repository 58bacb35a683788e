"""The node table: one small shared-memory page that tells every process the state of disks and fronts.

It answers the questions that sit on hot paths without a message: may I touch this disk, which epoch of its
worker is current, how many bytes are in flight in the whole node, which front holds the fewest connections.

Ownership: every cell has exactly one writer. The supervisor writes the header and the disk rows; each front
writes its own front row. All cells are aligned 8-byte integers, so a reader never sees half a value. Node-wide
sums (in-flight bytes) are computed by the reader from the rows: no shared counter, nothing to leak when a front
is killed, since the supervisor's side clears the row of a dead front.

The file lives in the runtime directory (tmpfs); it is never on a data disk.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
from collections.abc import Iterator

__all__ = ["DISK_STATES_THAT_SERVE", "DiskRow", "DiskState", "FrontRow", "NodeTable", "create_node_table"]

_MAGIC = 0x766F6C756D656431  # "volumed1"
_CELL = 8
_HEADER_CELLS = 8
_DISK_ROW_BYTES = 512
_DISK_ROW_CELLS = _DISK_ROW_BYTES // _CELL
_FRONT_ROW_CELLS = 8
_PATH_AT = 64
_PATH_BYTES_MAX = _DISK_ROW_BYTES - _PATH_AT - 2

# header cells
_H_MAGIC, _H_DISKS, _H_FRONTS, _H_FLAGS, _H_VERSION, _H_SECURITY = range(6)
_FLAG_STOPPING = 1
_FLAG_LEFT_CLUSTER = 2

# disk row cells
_D_STATE, _D_EPOCH, _D_ACCEPTING = range(3)

# front row cells
_F_PID, _F_CONNECTIONS, _F_UPLOAD, _F_DOWNLOAD, _F_WAITERS = range(5)


class DiskState(enum.IntEnum):
    """State of one disk. What each state does to reads, writes, heartbeat and health is the table in
    ``supervisor.disks``."""

    ABSENT = 0
    OPENING = 1
    OK = 2
    SLOW = 3
    STUCK = 4
    FAILED = 5
    DRAINING = 6


DISK_STATES_THAT_SERVE = frozenset({DiskState.OK, DiskState.SLOW, DiskState.DRAINING})
"""States in which a front may touch a disk's map and files."""


class DiskRow:
    """View of one disk's row. Setters are for the supervisor only."""

    __slots__ = ("_base", "_buffer", "_cells")

    def __init__(self, cells: memoryview, buffer: memoryview, base_cell: int) -> None:
        self._cells = cells
        self._buffer = buffer
        self._base = base_cell

    @property
    def state(self) -> DiskState:
        return DiskState(self._cells[self._base + _D_STATE])

    @property
    def epoch(self) -> int:
        """Number of the worker process that owns the disk now; grows by one at each start."""
        return self._cells[self._base + _D_EPOCH]

    @property
    def version(self) -> int:
        """State and epoch as one number, for readers that only ask whether anything changed."""
        return self._cells[self._base + _D_EPOCH] << 8 | self._cells[self._base + _D_STATE]

    @property
    def map_path(self) -> str:
        """Directory of the disk's needle map environment; empty until the worker told it."""
        at = self._base * _CELL + _PATH_AT
        (length,) = struct.unpack_from("<H", self._buffer, at)
        return bytes(self._buffer[at + 2 : at + 2 + length]).decode()

    def set_state(self, state: DiskState) -> None:
        self._cells[self._base + _D_STATE] = int(state)

    def start_epoch(self, epoch: int) -> None:
        """A new worker owns the disk: no front may use it before ``set_state`` says so. A failed disk stays so."""
        if self.state is not DiskState.FAILED:
            self._cells[self._base + _D_STATE] = int(DiskState.OPENING)
        self._cells[self._base + _D_EPOCH] = epoch

    def set_map_path(self, path: str) -> None:
        raw = path.encode()
        if len(raw) > _PATH_BYTES_MAX:
            raise ValueError(f"map path longer than {_PATH_BYTES_MAX} bytes: {path}")
        at = self._base * _CELL + _PATH_AT
        self._buffer[at + 2 : at + 2 + len(raw)] = raw
        struct.pack_into("<H", self._buffer, at, len(raw))


class FrontRow:
    """View of one HTTP front's row. Setters are for that front, ``clear`` for the process that reaped it."""

    __slots__ = ("_base", "_cells")

    def __init__(self, cells: memoryview, base_cell: int) -> None:
        self._cells = cells
        self._base = base_cell

    @property
    def pid(self) -> int:
        """Process id, 0 while the slot is free."""
        return self._cells[self._base + _F_PID]

    @property
    def connections(self) -> int:
        return self._cells[self._base + _F_CONNECTIONS]

    @property
    def upload_bytes(self) -> int:
        return self._cells[self._base + _F_UPLOAD]

    @property
    def download_bytes(self) -> int:
        return self._cells[self._base + _F_DOWNLOAD]

    @property
    def waiters(self) -> int:
        """Requests that wait until fewer bytes are in flight."""
        return self._cells[self._base + _F_WAITERS]

    def claim(self, pid: int) -> None:
        self.clear()
        self._cells[self._base + _F_PID] = pid

    def add_connections(self, count: int) -> None:
        self._cells[self._base + _F_CONNECTIONS] += count

    def add_upload(self, count: int) -> None:
        self._cells[self._base + _F_UPLOAD] += count

    def add_download(self, count: int) -> None:
        self._cells[self._base + _F_DOWNLOAD] += count

    def add_waiters(self, count: int) -> None:
        self._cells[self._base + _F_WAITERS] += count

    def clear(self) -> None:
        for cell in range(_FRONT_ROW_CELLS):
            self._cells[self._base + cell] = 0


class NodeTable:
    """The mapped table. ``disks[i]`` and ``fronts[i]`` are row views."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(fd, 0)
        finally:
            os.close(fd)
        self._buffer = memoryview(self._map)
        self._cells = self._buffer.cast("q")
        if self._cells[_H_MAGIC] != _MAGIC:
            raise ValueError(f"{path} is not a node table")
        disks, fronts = self._cells[_H_DISKS], self._cells[_H_FRONTS]
        first_front = _HEADER_CELLS + disks * _DISK_ROW_CELLS
        self.disks = tuple(
            DiskRow(self._cells, self._buffer, _HEADER_CELLS + i * _DISK_ROW_CELLS) for i in range(disks)
        )
        self.fronts = tuple(FrontRow(self._cells, first_front + i * _FRONT_ROW_CELLS) for i in range(fronts))

    @property
    def version(self) -> int:
        """Grows with every change of a disk row; a front that saw this number need not look at the rows."""
        return self._cells[_H_VERSION]

    def changed(self) -> None:
        """Supervisor: disk rows were written."""
        self._cells[_H_VERSION] += 1

    @property
    def security_version(self) -> int:
        """Grows whenever the security settings were replaced (``volumed.security.access``)."""
        return self._cells[_H_SECURITY]

    def security_changed(self) -> None:
        """Supervisor: the file of security settings was replaced."""
        self._cells[_H_SECURITY] += 1

    def set_stopping(self) -> None:
        self._cells[_H_FLAGS] |= _FLAG_STOPPING

    def set_left_cluster(self) -> None:
        self._cells[_H_FLAGS] |= _FLAG_LEFT_CLUSTER

    @property
    def healthy(self) -> bool:
        """What ``/healthz`` answers (http.md 6.2): not stopping, not left, at least one disk serves."""
        if self._cells[_H_FLAGS]:
            return False
        return any(row.state in DISK_STATES_THAT_SERVE for row in self.disks)

    def upload_bytes(self) -> int:
        """Bytes of uploads in flight in the whole node (http.md 7)."""
        return sum(row.upload_bytes for row in self.fronts)

    def download_bytes(self) -> int:
        """Bytes of downloads in flight in the whole node (http.md 7)."""
        return sum(row.download_bytes for row in self.fronts)

    def live_fronts(self) -> Iterator[FrontRow]:
        return (row for row in self.fronts if row.pid)

    def close(self) -> None:
        self._cells.release()
        self._buffer.release()
        self._map.close()


def create_node_table(path: str, disks: int, fronts: int) -> NodeTable:
    """Create the file with all disks ``ABSENT`` and all front slots free, and map it."""
    size = (_HEADER_CELLS + disks * _DISK_ROW_CELLS + fronts * _FRONT_ROW_CELLS) * _CELL
    with open(path, "xb") as file:
        file.write(struct.pack("<qqq", _MAGIC, disks, fronts))
        file.truncate(size)
    return NodeTable(path)
